from typing import Any

import pytest

from server.api.constraints.tool_prompt import instructions, speaks_of_tools, with_tools_written_out

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


def test_instructions_hold_the_signatures_and_the_form_of_a_call() -> None:
    text = instructions(TOOLS)
    assert '{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}' in text
    assert '<tool_call>\n{"name": "function name", "arguments": {...}}\n</tool_call>' in text


@pytest.mark.parametrize(
    ("messages", "has_system", "first"),
    [
        ([USER], True, {"role": "system", "content": instructions(TOOLS)}),
        (
            [{"role": "system", "content": "Be brief."}, USER],
            True,
            {"role": "system", "content": f"Be brief.\n\n{instructions(TOOLS)}"},
        ),
        ([USER], False, {"role": "user", "content": f"{instructions(TOOLS)}\n\nhello"}),
    ],
)
def test_tools_stand_at_the_beginning(messages: list[Any], has_system: bool, first: dict[str, str]) -> None:
    assert with_tools_written_out(messages, TOOLS, has_system=has_system)[0] == first


def test_calls_and_results_become_text_of_their_sides() -> None:
    written = with_tools_written_out([USER, CALLING, RESULT, {**RESULT, "content": "sun"}, USER], [])
    call = '{"name": "weather", "arguments": {"city": "Köln"}}'
    assert written == [
        USER,
        {
            "role": "assistant",
            "content": f"<tool_call>\n{call}\n</tool_call>\n<tool_call>\n{call}\n</tool_call>",
        },
        {
            "role": "user",
            "content": "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>",
        },
        USER,
    ]


def test_what_was_said_beside_a_call_stays() -> None:
    (message,) = with_tools_written_out([{**CALLING, "content": "I look."}], [])
    assert message["content"].startswith("I look.\n<tool_call>")


def test_only_calls_and_results_speak_of_tools() -> None:
    assert not speaks_of_tools([USER])
    assert speaks_of_tools([USER, CALLING])
    assert speaks_of_tools([RESULT])
