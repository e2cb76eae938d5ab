from typing import Any

import pytest

from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import CompletionRequest
from server.api.protocol.constraint_fields import Form
from server.api.protocol.generation_request import GenerationRequest
from server.errors import InvalidRequest

COMPLETION: dict[str, Any] = {"model": "base", "prompt": "hello"}
CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
BODIES = [(CompletionRequest, COMPLETION), (ChatRequest, CHAT)]
SCHEMA = {"type": "object"}
NAMED_SCHEMA = {"name": "answer", "schema": SCHEMA}

FORMS: list[tuple[dict[str, Any], Form | None]] = [
    ({}, None),
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, Form("json_object", None, "response_format")),
    (
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        Form("json_schema", SCHEMA, "response_format.schema"),
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": NAMED_SCHEMA}},
        Form("json_schema", SCHEMA, "response_format.json_schema.schema"),
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {**NAMED_SCHEMA, "strict": False}}},
        Form("json_schema", SCHEMA, "response_format.json_schema.schema", lenient=True),
    ),
    ({"structured_outputs": {"json": SCHEMA}}, Form("json_schema", SCHEMA, "structured_outputs.json")),
    ({"structured_outputs": {"json": '{"type": "object"}'}}, Form("json_schema", SCHEMA, "structured_outputs.json")),
    ({"structured_outputs": {"json_object": True}}, Form("json_object", True, "structured_outputs.json_object")),
    ({"structured_outputs": {"regex": "a+"}}, Form("regex", "a+", "structured_outputs.regex")),
    ({"structured_outputs": {"choice": ["a", "b"]}}, Form("choice", ["a", "b"], "structured_outputs.choice")),
    ({"structured_outputs": {"grammar": "start: x"}}, Form("rules", "start: x", "structured_outputs.grammar")),
    ({"guided_json": SCHEMA}, Form("json_schema", SCHEMA, "guided_json")),
    ({"guided_regex": "a+"}, Form("regex", "a+", "guided_regex")),
    ({"guided_choice": ["a"]}, Form("choice", ["a"], "guided_choice")),
    ({"guided_grammar": "start: x"}, Form("rules", "start: x", "guided_grammar")),
    ({"json_schema": '{"type": "object"}'}, Form("json_schema", SCHEMA, "json_schema")),
    ({"regex": "a+"}, Form("regex", "a+", "regex")),
    ({"ebnf": "root ::= x"}, Form("rules", "root ::= x", "ebnf")),
]


@pytest.mark.parametrize(("request_type", "body"), BODIES)
@pytest.mark.parametrize(("fields", "form"), FORMS)
def test_every_way_of_asking_for_a_form_says_what_and_where(
    request_type: type[GenerationRequest], body: dict[str, Any], fields: dict[str, Any], form: Form | None
) -> None:
    assert request_type.parse(body | fields).form == form


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "json_schema": NAMED_SCHEMA}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "schema": SCHEMA}}, "response_format.schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "7"}, "guided_json"),
        ({"guided_json": "[" * 100_000}, "guided_json"),
        ({"guided_choice": [1]}, "guided_choice[0]"),
        ({"regex": 7}, "regex"),
        ({"regex": "a", "ebnf": "root ::= x"}, "ebnf"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ChatRequest.parse(CHAT | fields)
    assert caught.value.param == param
