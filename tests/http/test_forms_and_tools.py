"""Answers bound to a form, and calls of tools, by the `openai` client from a real engine.

The model writes at random, so whatever is well-formed is so by its grammar.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import openai
import pytest
from openai import OpenAI

from tests.http.real_server import RealServer
from tests.tiny_models import write_tiny_model

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 20}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "description": "Tells", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
]
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
TEMPLATE = (
    "{% for tool in tools or [] %}<bos>{{ tool.function.name }}{% endfor %}"
    "{% for message in messages %}<bos>{{ message.role }}: {{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.arguments.city }}{% endfor %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose template knows of tools."""
    directory = write_tiny_model("llama", tmp_path_factory.mktemp("base"))
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


@pytest.fixture(scope="module")
def client(server: RealServer, adapters: dict[str, str]) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def chat(client: OpenAI, messages: list[dict[str, Any]] = HELLO, **fields: Any) -> Any:
    asked: dict[str, Any] = {"model": "red", "messages": messages, "max_tokens": 250, "seed": 1} | fields
    return client.chat.completions.create(**asked)


def is_valid(text: str) -> bool:
    return jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(json.loads(text))


@pytest.mark.parametrize("model", ["base", "red", "green"])
def test_an_answer_is_valid_by_its_schema(client: OpenAI, model: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "trip", "strict": True, "schema": SCHEMA}}
    answer = chat(client, model=model, response_format=form, n=3)
    assert [(choice.finish_reason, is_valid(choice.message.content)) for choice in answer.choices] == [
        ("stop", True)
    ] * 3


def test_a_completion_is_one_of_its_choices(client: OpenAI) -> None:
    answer = client.completions.create(
        model="base", prompt="The sky is", max_tokens=20, n=4, extra_body={"guided_choice": ["blue", "grey"]}
    )
    assert {choice.text for choice in answer.choices} <= {"blue", "grey"}


def test_a_call_that_is_required_is_made(client: OpenAI) -> None:
    choice = chat(client, tools=TOOLS, tool_choice="required", parallel_tool_calls=False).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert call.function.name in ("weather", "now")


def test_a_stream_of_a_call_is_the_call_in_pieces(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "temperature": 0,
    }
    whole = chat(client, parallel_tool_calls=False, **asked).choices[0].message.tool_calls[0].function
    assert is_valid(whole.arguments)
    arguments, names, reasons = "", [], []
    for chunk in chat(client, parallel_tool_calls=False, stream=True, **asked):
        reasons += [chunk.choices[0].finish_reason]
        for call in chunk.choices[0].delta.tool_calls or ():
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments
    assert (names, arguments) == (["weather"], whole.arguments)
    assert reasons[-1] == "tool_calls"


def test_the_result_of_a_call_goes_back_into_the_conversation(client: OpenAI) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "weather"}}}
    message = chat(client, parallel_tool_calls=False, **asked).choices[0].message
    turns = [
        *HELLO,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"},
    ]
    answer = chat(client, turns, tools=TOOLS, tool_choice="none", max_tokens=5)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content


def test_free_and_bound_answers_may_be_mixed_with_tools(client: OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
    for choice in chat(client, tools=TOOLS, response_format=form, n=6, parallel_tool_calls=False).choices:
        if choice.finish_reason == "tool_calls":
            assert choice.message.content is None
        else:
            assert is_valid(choice.message.content)


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strin"}}}},
            "response_format.json_schema.schema",
            "Invalid type: strin",
        ),
        ({"extra_body": {"guided_regex": "("}}, "guided_regex", "unclosed group"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"required": 7}}}]},
            "tools[0].function.parameters",
            "cannot be used",
        ),
    ],
)
def test_what_cannot_be_a_grammar_is_refused_by_its_field(
    client: OpenAI, fields: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason) as caught:
        chat(client, **fields)
    assert caught.value.param == param


def test_a_grammar_without_an_end_fails_its_request_alone(client: OpenAI, server: RealServer) -> None:
    with pytest.raises(openai.BadRequestError, match=r"dead end|cannot be used"):
        chat(client, extra_body={"guided_json": {"$ref": "#"}})
    server.wait_idle()
