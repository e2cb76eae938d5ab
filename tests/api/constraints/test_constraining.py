"""What a request's fields make of its prompt, its tokens and its text."""

import json
from typing import Any

import httpx
import pytest

from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, saying
from tests.api.tiny_tokenizer import CHAT_TEMPLATE

pytestmark = pytest.mark.anyio

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT_TEMPLATE
WITH_TOOLS = "{% for tool in tools or [] %}tool {{ tool.function.name }};{% endfor %}" + CHAT_TEMPLATE


async def ask(
    bench: Bench, *, says: str = "", template: str | None = None, path: str = "chat/completions", **fields: Any
) -> tuple[ScriptedEngine, httpx.Response]:
    engine = bench.engine(saying(bench.ids(says)), max_model_len=4096)
    file = bench.base / "chat_template.jinja"
    usual = file.read_text()
    file.write_text(template or usual)
    try:
        async with serving(bench, engine) as client:
            body = CHAT | fields if path == "chat/completions" else {"model": "base", "prompt": "hello"} | fields
            return engine, await client.post(f"/v1/{path}", json=body)
    finally:
        file.write_text(usual)


def prompt_of(bench: Bench, engine: ScriptedEngine) -> str:
    return str(bench.tokenizer.decode(engine.submitted[0].prompt, skip_special_tokens=False))


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, '"type":"object"'),
        ({"guided_json": {"const": "x"}}, '"const":"x"'),
        ({"structured_outputs": {"regex": "a+b"}}, "a+b"),
        ({"guided_choice": ["yes", "no"]}, "yes"),
        ({"ebnf": 'root ::= "word"'}, "word"),
    ],
)
async def test_a_form_reaches_the_engine_as_a_grammar(
    bench: Bench, path: str, fields: dict[str, Any], expected: str
) -> None:
    engine, response = await ask(bench, path=path, **fields)
    assert response.status_code == 200, response.text
    grammar = engine.submitted[0].sampling.grammar
    assert grammar is not None
    assert len(json.loads(grammar)["grammars"]) == 1
    assert expected in grammar


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"tools": []}])
async def test_free_text_has_no_grammar(bench: Bench, fields: dict[str, Any]) -> None:
    engine, _ = await ask(bench, **fields)
    assert engine.submitted[0].sampling.grammar is None


async def test_with_tools_calls_are_read_from_the_text(bench: Bench) -> None:
    engine, response = await ask(bench, says=f"I look.\n{CALL}", tools=TOOLS)
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    grammar = engine.submitted[0].sampling.grammar
    assert grammar is not None
    assert "lead" in grammar


async def test_with_the_choice_none_tools_are_shown_and_text_is_text(bench: Bench) -> None:
    engine, response = await ask(bench, says=CALL, tools=TOOLS, tool_choice="none")
    (choice,) = response.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (CALL, "stop")
    assert engine.submitted[0].sampling.grammar is None
    assert '"name": "weather"' in prompt_of(bench, engine)


async def test_a_template_that_knows_of_tools_writes_them_itself(bench: Bench) -> None:
    engine, _ = await ask(bench, template=WITH_TOOLS, tools=TOOLS)
    prompt = prompt_of(bench, engine)
    assert prompt.startswith("tool weather;")
    assert "<tools>" not in prompt


async def test_for_a_template_that_knows_of_none_they_go_into_the_system_message(bench: Bench) -> None:
    engine, _ = await ask(bench, tools=TOOLS)
    assert prompt_of(bench, engine).startswith("<|im_start|>system\nYou can call functions")


async def test_for_a_template_without_a_system_they_go_to_the_user(bench: Bench) -> None:
    engine, response = await ask(bench, template=NO_SYSTEM, tools=TOOLS)
    assert response.status_code == 200, response.text
    assert prompt_of(bench, engine).startswith("<|im_start|>user\nYou can call functions")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object", "schema": {"type": "x"}}}, "response_format.schema"),
        ({"guided_grammar": "no grammar"}, "guided_grammar"),
        ({"ebnf": "root ::= ("}, "ebnf"),
        ({"ebnf": "root ::= " + "(" * 50_000}, "ebnf"),
        ({"guided_regex": "x" * 70_000}, "guided_regex"),
        ({"guided_regex": "(" * 1_000}, "guided_regex"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": 7}}}]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "strict": True, "parameters": {"not": {}}}}]},
            "tools[0].function.parameters",
        ),
    ],
)
async def test_what_cannot_be_a_grammar_is_refused_by_its_field(
    bench: Bench, fields: dict[str, Any], param: str
) -> None:
    engine, response = await ask(bench, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert len(response.json()["error"]["message"]) < 1000
    assert engine.submitted == []


async def test_keywords_that_are_not_supported_are_passed_over_in_tools_that_are_not_strict(bench: Bench) -> None:
    tool = {"type": "function", "function": {"name": "a", "parameters": {"not": {}, "format": "colour"}}}
    _, response = await ask(bench, tools=[tool])
    assert response.status_code == 200, response.text


async def test_tools_together_may_not_be_too_large(bench: Bench) -> None:
    tools = [
        {"type": "function", "function": {"name": f"t{number}", "parameters": {"enum": [{"x": "x" * 60_000}]}}}
        for number in range(10)
    ]
    _, response = await ask(bench, tools=tools)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")
