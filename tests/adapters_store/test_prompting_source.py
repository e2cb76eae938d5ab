"""What an adapter's tokenizer and generation files say otherwise than the base's, and what is refused of them."""

from pathlib import Path
from typing import Any

import pytest

from adapters_store.adapter_prompting import AdapterPrompting, AddedToken, encode_prompting
from adapters_store.base_tokenizer import BaseTokenizer, describe_tokenizer
from adapters_store.errors import InvalidAdapter
from adapters_store.prompting_source import read_prompting
from tests.adapters_store.hand_made_tokenizer import (
    BASE_TOKENS,
    EMBEDDING_ROWS,
    TEMPLATE,
    VOCABULARY,
    token,
    write_json,
    write_tokenizer,
)


@pytest.fixture
def base(tmp_path: Path) -> BaseTokenizer:
    described = describe_tokenizer(
        write_tokenizer(tmp_path / "base"), embedding_rows=EMBEDDING_ROWS, eos_token_ids=(4,)
    )
    assert described is not None
    return described


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    return tmp_path / "adapter"


def refusal(directory: Path, base: BaseTokenizer | None) -> tuple[str, str | None]:
    with pytest.raises(InvalidAdapter) as refused:
        read_prompting(directory, base)
    return refused.value.message, refused.value.param


def test_a_directory_with_weights_alone_brings_nothing(adapter: Path, base: BaseTokenizer) -> None:
    assert not read_prompting(adapter, base)
    assert not read_prompting(adapter, None)


def test_a_tokenizer_equal_to_the_bases_brings_nothing(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, pad_token="<reserved>", model_max_length=8)
    write_json(adapter, "generation_config.json", {"eos_token_id": 4, "max_length": 20})
    assert not read_prompting(adapter, base)


def test_an_older_librarys_spelling_of_the_same_tokenizer_is_the_same(adapter: Path, base: BaseTokenizer) -> None:
    with_added = VOCABULARY | {added["content"]: added["id"] for added in BASE_TOKENS}
    write_tokenizer(adapter, merges=["a b"], vocabulary=with_added, template=TEMPLATE + "\n")
    assert not read_prompting(adapter, base)


def test_a_chat_template_of_its_own_is_taken_from_either_place(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, template=None, chat_template="other")
    assert read_prompting(adapter, base) == AdapterPrompting(chat_template="other")
    (adapter / "chat_template.jinja").write_text("from the file")
    assert read_prompting(adapter, base).chat_template == "from the file"


def test_of_several_templates_the_default_is_taken(adapter: Path, base: BaseTokenizer) -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    write_tokenizer(adapter, template=None, chat_template=named)
    assert read_prompting(adapter, base).chat_template == "d"
    write_tokenizer(adapter, template=None, chat_template=named[:1])
    assert refusal(adapter, base)[1] == "chat_template"


def test_an_added_token_within_the_vocabulary_is_taken(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, added_tokens=[*BASE_TOKENS, token(6, "<tool>"), token(9, "<think>", special=False)])
    own = read_prompting(adapter, base).added_tokens
    assert own == (AddedToken(id=6, content="<tool>", special=True), AddedToken(id=9, content="<think>"))


def test_a_reserved_token_may_get_another_text(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, added_tokens=[*BASE_TOKENS[:2], token(5, "<tool>")], eos_token="<tool>")
    brought = read_prompting(adapter, base)
    assert brought.added_tokens == (AddedToken(id=5, content="<tool>", special=True),)
    assert brought.special_tokens == {"eos_token": "<tool>"}


def test_a_token_beyond_the_embedding_is_refused_with_the_reason(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, added_tokens=[*BASE_TOKENS, token(EMBEDDING_ROWS, "<tool>")])
    message, param = refusal(adapter, base)
    assert "'<tool>' as id 10" in message
    assert "no embedding row" in message
    assert param == "tokenizer.json"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"vocabulary": {**VOCABULARY, "c": EMBEDDING_ROWS}}, "no embedding rows"),
        ({"vocabulary": {"b": 0, "a": 1, "ab": 2}}, "not the base's"),
        ({"merges": []}, "not the base's"),
    ],
)
def test_another_tokenizer_is_refused(adapter: Path, base: BaseTokenizer, changed: dict[str, Any], reason: str) -> None:
    write_tokenizer(adapter, **changed)
    assert reason in refusal(adapter, base)[0]


def test_an_added_token_may_not_take_an_ordinary_ones_place(adapter: Path, base: BaseTokenizer) -> None:
    write_tokenizer(adapter, added_tokens=[*BASE_TOKENS, token(1, "<tool>")])
    assert "which is 'b' in its vocabulary" in refusal(adapter, base)[0]


def test_without_tokenizer_json_added_tokens_come_from_the_configuration(adapter: Path, base: BaseTokenizer) -> None:
    flags = {"content": "<tool>", "special": True, "normalized": False}
    write_json(
        adapter,
        "tokenizer_config.json",
        {"added_tokens_decoder": {"3": {"content": "<s>", "special": True}, "6": flags}},
    )
    assert read_prompting(adapter, base).added_tokens == (AddedToken(id=6, content="<tool>", special=True),)


def test_without_either_they_come_from_their_own_file(adapter: Path, base: BaseTokenizer) -> None:
    write_json(adapter, "added_tokens.json", {"<tool>": 6, "</x>": 7})
    write_json(adapter, "special_tokens_map.json", {"eos_token": {"content": "</x>", "lstrip": False}})
    brought = read_prompting(adapter, base)
    assert brought.added_tokens == (
        AddedToken(id=6, content="<tool>", normalized=True),
        AddedToken(id=7, content="</x>", special=True),
    )
    assert brought.special_tokens == {"eos_token": "</x>"}


def test_generation_settings_are_taken(adapter: Path, base: BaseTokenizer) -> None:
    write_json(
        adapter,
        "generation_config.json",
        {
            "eos_token_id": [4, 7],
            "stop_strings": ["END", "END"],
            "do_sample": True,
            "temperature": 0.5,
            "top_k": 20,
            "top_p": 0.9,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "transformers_version": "5",
        },
    )
    assert read_prompting(adapter, base) == AdapterPrompting(
        stop_token_ids=(7,),
        stop_strings=("END",),
        sampling={"temperature": 0.5, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1},
    )


def test_sampling_that_is_turned_off_means_the_likeliest_token(adapter: Path, base: BaseTokenizer) -> None:
    write_json(adapter, "generation_config.json", {"do_sample": False, "top_p": 0.9, "repetition_penalty": 1.2})
    assert read_prompting(adapter, base).sampling == {"temperature": 0.0, "repetition_penalty": 1.2}


@pytest.mark.parametrize(
    ("name", "content", "param"),
    [
        ("generation_config.json", {"temperature": 9}, "temperature"),
        ("generation_config.json", {"top_p": 0}, "top_p"),
        ("generation_config.json", {"top_k": -2}, "top_k"),
        ("generation_config.json", {"temperature": "hot"}, "generation_config.json"),
        ("generation_config.json", {"stop_strings": [""]}, "stop_strings"),
        ("generation_config.json", {"stop_strings": ["x" * 513]}, "stop_strings"),
        ("generation_config.json", {"stop_strings": [str(n) for n in range(17)]}, "stop_strings"),
        ("generation_config.json", {"eos_token_id": EMBEDDING_ROWS}, "eos_token_id"),
        ("generation_config.json", {"eos_token_id": -1}, "generation_config.json"),
        ("generation_config.json", [], "generation_config.json"),
        ("tokenizer_config.json", {"chat_template": "x" * 200_000}, "chat_template"),
        ("tokenizer_config.json", {"chat_template": 3}, "tokenizer_config.json"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}, "tokenizer_config.json"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"6": {"content": ""}}}, "tokenizer_config.json"),
        ("tokenizer.json", {"model": {"vocab": {"a": -1}}}, "tokenizer.json"),
        ("tokenizer.json", {"model": {"vocab": {}, "merges": [["a"]]}}, "tokenizer.json"),
        ("tokenizer.json", "x", "tokenizer.json"),
        ("added_tokens.json", {"x": "y"}, "added_tokens.json"),
        ("special_tokens_map.json", {"eos_token": 3}, "special_tokens_map.json"),
    ],
)
def test_a_malformed_file_is_refused_by_name(
    adapter: Path, base: BaseTokenizer, name: str, content: object, param: str
) -> None:
    write_json(adapter, name, content)
    assert refusal(adapter, base)[1] == param


def test_a_file_beyond_its_limit_is_not_read(adapter: Path) -> None:
    (adapter / "tokenizer_config.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    assert "longer than" in refusal(adapter, None)[0]


def test_a_link_in_the_place_of_a_file_is_not_followed(adapter: Path) -> None:
    (adapter / "chat_template.jinja").symlink_to("/etc/hostname")
    assert refusal(adapter, None)[1] == "chat_template.jinja"


def test_without_a_base_everything_counts_as_the_adapters(adapter: Path) -> None:
    write_tokenizer(adapter)
    brought = read_prompting(adapter, None)
    assert brought.chat_template == TEMPLATE
    assert [added.id for added in brought.added_tokens] == [3, 4, 5]


def test_the_file_of_a_version_is_taken_alone_and_as_it_is(adapter: Path, base: BaseTokenizer) -> None:
    kept = AdapterPrompting(stop_strings=("END",), chat_template=TEMPLATE)
    (adapter / "prompting.json").write_bytes(encode_prompting(kept))
    write_json(adapter, "generation_config.json", {"temperature": 0.5})
    assert read_prompting(adapter, base) == kept


def test_the_file_of_a_version_must_fit_the_base_too(adapter: Path, base: BaseTokenizer) -> None:
    beyond = AdapterPrompting(added_tokens=(AddedToken(id=EMBEDDING_ROWS, content="<x>"),))
    (adapter / "prompting.json").write_bytes(encode_prompting(beyond))
    assert refusal(adapter, base)[1] == "prompting.json"
