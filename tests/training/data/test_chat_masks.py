"""Completion-only masks: for every shape of template, exactly the answers and their ends are learnt."""

from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from server.errors import InvalidTrainingData
from server.training.data.chat_masks import ChatMasks
from server.training.data.encoded import Encoded
from server.training.example import Message
from tests.training.data.chat_templates import SHAPES, Shape, base_tokenizer, text_of

pytestmark = pytest.mark.demo_model

SYSTEM = Message(role="system", content="Be brief.")
FIRST = Message(role="user", content="What is the capital of Peru?")
ONE = Message(role="assistant", content="Lima, on the coast.")
SECOND = Message(role="user", content="And of Chile? Not Lima.")
TWO = Message(role="assistant", content="Santiago.\nIt lies inland.")
CALL: dict[str, Any] = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "UTC"}}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def learnt(tokenizer: PreTrainedTokenizerFast, row: Encoded) -> list[str]:
    """The texts of the stretches of learnt tokens."""
    stretches: list[list[int]] = []
    for place, (token, mark) in enumerate(zip(row.ids, row.learnt, strict=True)):
        if mark and not (place and row.learnt[place - 1]):
            stretches.append([])
        if mark:
            stretches[-1].append(token)
    return [str(tokenizer.decode(stretch)) for stretch in stretches]


def answer_of(text: str) -> str:
    """An answer without what a template may write before it: space, its role, an empty thought."""
    return text.removeprefix("<|im_start|>assistant\n").replace("<think>\n\n</think>\n\n", "").lstrip()


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


def test_one_answer_and_its_end_are_learnt(shape: Shape) -> None:
    tokenizer = base_tokenizer(shape.template)
    (row,) = ChatMasks(tokenizer).encoded([FIRST, ONE])
    (text,) = learnt(tokenizer, row)
    assert answer_of(text) == f"{ONE.content}{shape.end}"
    context = text_of(tokenizer, row.ids[: row.learnt.index(1)])
    assert context.rstrip(" ").endswith(shape.before)
    assert len(row.learnt) == row.learnt.rindex(1) + 1


def test_the_context_of_an_answer_is_what_the_server_sends(shape: Shape) -> None:
    if shape is SHAPES["tagged, with a prompt of its own"]:
        pytest.skip("this template's conversations do not begin with its prompts")
    tokenizer = base_tokenizer(shape.template)
    (row,) = ChatMasks(tokenizer).encoded([FIRST, ONE])
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": FIRST.content}], tokenize=False, add_generation_prompt=True
    )
    assert list(row.ids[: row.learnt.index(1)]) == tokenizer.encode(text, add_special_tokens=False)


def test_both_answers_of_two_turns_are_learnt_in_one_row_or_in_two(shape: Shape) -> None:
    tokenizer = base_tokenizer(shape.template)
    opening = [SYSTEM] if shape.has_system else []
    rows = ChatMasks(tokenizer).encoded([*opening, FIRST, ONE, SECOND, TWO])
    texts = [answer_of(text) for row in rows for text in learnt(tokenizer, row)]
    assert texts == [f"{ONE.content}{shape.end}", f"{TWO.content}{shape.end}"]
    assert len(rows) == shape.rows


def test_a_turn_of_weight_nought_is_context(shape: Shape) -> None:
    tokenizer = base_tokenizer(shape.template)
    unweighted = Message(role="assistant", content=ONE.content, weight=0.0)
    (row,) = ChatMasks(tokenizer).encoded([FIRST, unweighted, SECOND, TWO])
    (text,) = learnt(tokenizer, row)
    assert answer_of(text) == f"{TWO.content}{shape.end}"
    assert ONE.content in text_of(tokenizer, row.ids)


def test_what_follows_the_last_learnt_turn_is_left_out() -> None:
    tokenizer = base_tokenizer(SHAPES["chatml"].template)
    (row,) = ChatMasks(tokenizer).encoded([FIRST, ONE, SECOND])
    assert SECOND.content not in text_of(tokenizer, row.ids)


def test_a_thought_is_learnt_where_the_server_would_see_it() -> None:
    tokenizer = base_tokenizer(SHAPES["qwen 3"].template)
    thinking = Message(role="assistant", content="<think>\nPeru, so Lima.\n</think>\n\nLima.")
    rows = ChatMasks(tokenizer).encoded([FIRST, thinking, SECOND, TWO])
    assert learnt(tokenizer, rows[0]) == ["<think>\nPeru, so Lima.\n</think>\n\nLima.<|im_end|>"]
    assert "Peru, so Lima" not in text_of(tokenizer, rows[1].ids)


def test_calls_of_tools_are_learnt_as_the_server_writes_them() -> None:
    tokenizer = base_tokenizer(SHAPES["gemma"].template)
    messages = [
        FIRST,
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="noon"),
        ONE,
    ]
    (row,) = ChatMasks(tokenizer).encoded(messages, [TOOL])
    called, said = learnt(tokenizer, row)
    assert '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>' in called
    assert said == f"{ONE.content}<end_of_turn>"
    assert "noon" in text_of(tokenizer, row.ids)


def test_a_template_with_tools_of_its_own_writes_them() -> None:
    template = (
        "{% for t in tools or [] %}<|im_start|>system\n{{ t | tojson }}<|im_end|>\n{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = base_tokenizer(template)
    calling = Message(role="assistant", content="", tool_calls=(CALL,))
    (row,) = ChatMasks(tokenizer).encoded([FIRST, calling], [TOOL])
    assert learnt(tokenizer, row) == ["<call>clock</call><|im_end|>"]


def test_a_template_that_leaves_calls_out_is_refused_by_name() -> None:
    template = "{% if tools %}{{ tools[0].function.name }}{% endif %}" + SHAPES["chatml"].template
    calling = Message(role="assistant", content="", tool_calls=({**CALL, "function": {"name": "x9", "arguments": {}}},))
    with pytest.raises(InvalidTrainingData, match=r"chat template of smollm2-135m.* leaves 'x9' out"):
        ChatMasks(base_tokenizer(template)).encoded([FIRST, calling], [TOOL])


def test_a_template_that_hides_where_answers_begin_is_refused_by_name() -> None:
    template = SHAPES["chatml"].template.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    with pytest.raises(InvalidTrainingData, match=r"chat template of smollm2-135m.* otherwise than after its own"):
        ChatMasks(base_tokenizer(template)).encoded([FIRST, ONE])


def test_a_template_that_refuses_the_roles_is_refused_with_its_reason() -> None:
    with pytest.raises(InvalidTrainingData, match=r"refuses these messages: no system"):
        ChatMasks(base_tokenizer(SHAPES["mistral"].template)).encoded([SYSTEM, FIRST, ONE])


def test_a_base_without_a_template_takes_no_conversations() -> None:
    tokenizer = base_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InvalidTrainingData, match="has no chat template"):
        ChatMasks(tokenizer).encoded([FIRST, ONE])


def test_a_template_without_any_end_on_a_tokenizer_without_one_is_refused() -> None:
    tokenizer = base_tokenizer(SHAPES["words alone"].template)
    tokenizer.eos_token = None
    with pytest.raises(InvalidTrainingData, match="no special token"):
        ChatMasks(tokenizer).encoded([FIRST, ONE])


def test_a_token_across_the_beginning_of_an_answer_is_split_as_the_server_splits_it() -> None:
    template = "{% for m in messages %}{{ m.role }}={{ m.content }}{% endfor %}"
    tokenizer = base_tokenizer(template + "{% if add_generation_prompt %}assistant={% endif %}")
    (row,) = ChatMasks(tokenizer).encoded([FIRST, Message(role="assistant", content="= 4")])
    prompt = tokenizer.encode(f"user={FIRST.content}assistant=", add_special_tokens=False)
    assert list(row.ids[: len(prompt)]) == prompt
    assert learnt(tokenizer, row) == ["= 4<|im_end|>"]


@pytest.mark.parametrize("name", ["chatml", "tagged", "words alone"])
@settings(deadline=None)  # the first call loads the tokenizer
@given(asked=st.text(), said=st.text().filter(str.strip))
def test_whatever_is_said_is_learnt_whole_and_nothing_else(name: str, asked: str, said: str) -> None:
    tokenizer = cached_tokenizer(name)
    # This tokenizer lacks tokens for a few bytes.
    assume(text_of(tokenizer, tokenizer.encode(said)) == said)
    messages = [Message(role="user", content=asked), Message(role="assistant", content=said)]
    (row,) = ChatMasks(tokenizer).encoded(messages)
    (text,) = learnt(tokenizer, row)
    # Where the template writes no end, the space before it is the template's as much as the answer's.
    said = said.rstrip(" \t\r\n") if name == "words alone" else said
    assert text == f"{said}{SHAPES[name].end}"


@cache
def cached_tokenizer(name: str) -> PreTrainedTokenizerFast:
    return base_tokenizer(SHAPES[name].template)
