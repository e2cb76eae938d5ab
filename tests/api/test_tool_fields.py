from typing import Any

import pytest

from server.api.protocol.chat_request import ChatRequest
from server.errors import InvalidRequest

CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}


def tool(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def parsed(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(CHAT | fields)


@pytest.mark.parametrize(
    ("choice", "names", "must"),
    [
        (None, ["a", "b"], False),
        ("auto", ["a", "b"], False),
        ("none", [], False),
        ("required", ["a", "b"], True),
        (tool("b"), ["b"], True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("a")]}}, ["a"], False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("b")]}}, ["b"], True),
    ],
)
def test_a_choice_says_which_tools_may_be_called_and_whether_one_must(
    choice: Any, names: list[str], must: bool
) -> None:
    asked = parsed(tools=[tool("a"), tool("b")], tool_choice=choice)
    assert [function.name for _, function in asked.callable_tools] == names
    assert asked.must_call == must


@pytest.mark.parametrize(
    ("fields", "again"),
    [
        ({}, True),
        ({"tool_choice": "required"}, True),
        ({"parallel_tool_calls": False}, False),
        ({"tool_choice": {"type": "function", "function": {"name": "a"}}}, False),
    ],
)
def test_calls_may_follow_each_other_unless_one_is_chosen_by_name(fields: dict[str, Any], again: bool) -> None:
    assert parsed(tools=[tool("a")], **fields).may_call_again is again


@pytest.mark.parametrize("fields", [{"tools": []}, {"tool_choice": "none"}, {"tool_choice": "auto"}])
def test_without_tools_nothing_may_be_called(fields: dict[str, Any]) -> None:
    assert parsed(**fields).callable_tools == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool("a", parameters={"type": "array"})]}, "tools[0].function.parameters"),
        ({"tools": [tool("a", parameters=7)]}, "tools[0].function.parameters"),
        ({"tools": [tool("a", colour="red")]}, "tools[0].function.colour"),
        ({"tools": [tool("a"), tool("a")]}, "tools"),
        ({"tools": [tool(f"t{number}") for number in range(129)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": tool("a")}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": tool("b")}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": {**tool("a"), "extra": 1}}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": {"type": "custom", "custom": {"name": "a"}}}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"parallel_tool_calls": 7}, "parallel_tool_calls"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    ((_, function),) = parsed(tools=[tool("a")]).callable_tools
    assert function.arguments_schema == {"type": "object", "properties": {}, "additionalProperties": False}


def test_templates_see_a_tool_without_what_is_not_for_the_model() -> None:
    asked = parsed(tools=[tool("a", description="does", parameters={"type": "object"}, strict=True), tool("b")])
    assert [tool.as_template_input() for tool in asked.tools] == [
        tool("a", description="does", parameters={"type": "object"}),
        tool("b", parameters={"type": "object", "properties": {}}),
    ]
