"""Tools in a conversation whose chat template knows of none: written into its messages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.api.constraints.tool_format import HERMES

Messages = Sequence[Mapping[str, Any]]

PROBE_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "Whether the template writes tools.",
        "parameters": {"type": "object", "properties": {}},
    },
}
"""A template knows of tools where a conversation with this one is written differently."""


def speaks_of_tools(messages: Messages) -> bool:
    """Whether a conversation has calls of tools, or their answers."""
    return any(message["role"] == "tool" or "tool_calls" in message for message in messages)


def instructions(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a model must know to call tools in Hermes's format."""
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    call = HERMES.written([("function name", "{...}")])
    return (
        "You can call functions to help the user. Their signatures, as JSON:\n"
        f"<tools>\n{signatures}\n</tools>\n"
        "To call a function, write its name and its arguments as a JSON object within <tool_call></tool_call>:\n"
        f"{call}\n"
        "The user then sends its result within <tool_response></tool_response>."
    )


def with_tools_written_out(
    messages: Messages, tools: Sequence[Mapping[str, Any]], *, has_system: bool = True
) -> list[dict[str, Any]]:
    """The conversation in the roles system, user and assistant alone, with the tools at its beginning.

    `has_system` False: the template refuses the role system, so the tools go into the first message of the user.
    """
    written: list[dict[str, Any]] = []
    for message in messages:
        turn = _turn(message)
        if written and message["role"] == "tool" and written[-1]["role"] == "user":
            turn = {"role": "user", "content": f"{written.pop()['content']}\n{turn['content']}"}
        written.append(turn)
    if tools:
        role = "system" if has_system else "user"
        if written and written[0]["role"] == role:
            first = written.pop(0)
            content = (
                f"{first['content']}\n\n{instructions(tools)}"
                if has_system
                else f"{instructions(tools)}\n\n{first['content']}"
            )
        else:
            content = instructions(tools)
        written.insert(0, {"role": role, "content": content})
    return written


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    kept = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
    if calls := message.get("tool_calls"):
        functions = [call["function"] for call in calls]
        text = HERMES.written(
            [(function["name"], json.dumps(function["arguments"], ensure_ascii=False)) for function in functions]
        )
        kept["content"] = f"{kept['content']}\n{text}" if kept["content"] else text
    return kept
