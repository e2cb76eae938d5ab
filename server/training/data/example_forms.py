"""The JSON objects that a training file may hold, one to a line, and what each must say to be learnt from."""

import json
import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from server.training.example import ChatExample, CompletionExample, Example, Message, PreferenceExample

ExampleKind = Literal["chat", "completion", "preference"]

MAX_MESSAGES: Final = 4_096
MAX_TOOLS: Final = 128
_SHOWN_CHARS: Final = 200
_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_FORMS: Final = (
    'write {"messages": [...]}, {"prompt": "...", "completion": "..."} or '
    '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'
)
# What to write instead, by the field that a message of msgspec ends with.
_FIXES: Final = {
    "role": f"must be one of {', '.join(_ROLES)}",
    "weight": "must be 0 (context only) or 1 (learnt)",
    "content": "must be a text, or a list of text parts",
    "type": "only text parts and functions are supported",
    "arguments": "must be a JSON object, as text",
    "parallel_tool_calls": "only true, which is the default, is supported",
}
_PLACE: Final = re.compile(r" - at `\$\.?(?P<place>.*)`$")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object that may hold the fields it names and no others."""


class _TextPart(_Strict, frozen=True):
    type: Literal["text"]
    text: str


class _CalledFunction(_Strict, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    arguments: str | dict[str, Any]


class _ToolCall(_Strict, frozen=True):
    function: _CalledFunction
    id: str | None = None
    type: Literal["function"] = "function"


class _Turn(_Strict, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_TextPart] | None = None
    weight: Literal[0, 1] | None = None
    name: str | None = None
    tool_calls: Annotated[list[_ToolCall], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    # What OpenAI's answers hold beside; it says nothing where it is null.
    refusal: None = None
    function_call: None = None
    audio: None = None
    annotations: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class _Function(_Strict, frozen=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(_Strict, frozen=True):
    type: Literal["function"]
    function: _Function


_Turns = Annotated[list[_Turn], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
_Tools = Annotated[list[_Tool], msgspec.Meta(max_length=MAX_TOOLS)]


class _Chat(_Strict, frozen=True):
    messages: _Turns
    tools: _Tools | None = None
    parallel_tool_calls: bool = True


class _Completion(_Strict, frozen=True):
    prompt: str
    completion: str


class _Preference(_Strict, frozen=True):
    input: _Chat
    preferred_output: _Turns
    non_preferred_output: _Turns


_Form = TypeVar("_Form", bound=_Strict)


class MalformedExample(Exception):
    """An object that is no example; the message names the field and the fix. `reading` adds the line's number."""


def example_of(value: object) -> Example:
    """The example that a decoded JSON value holds.

    Raises:
        MalformedExample: it holds none of the three forms, or one that nothing can be learnt from.
    """
    if not isinstance(value, dict):
        found = "array" if isinstance(value, list) else "bare value"
        raise MalformedExample(f"holds a JSON {found} instead of an object: one object to a line; {_FORMS}")
    if "messages" in value:
        return _chat(_converted(value, _Chat))
    if "input" in value or "preferred_output" in value or "non_preferred_output" in value:
        return _preference(_converted(value, _Preference))
    if "prompt" in value or "completion" in value:
        return _completion(_converted(value, _Completion))
    raise MalformedExample(f"is of no known form: {_FORMS}")


def kind_of(example: Example) -> ExampleKind:
    """Which of the three forms an example has."""
    match example:
        case ChatExample():
            return "chat"
        case CompletionExample():
            return "completion"
        case PreferenceExample():
            return "preference"


def _converted(value: dict[str, Any], form: type[_Form]) -> _Form:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise MalformedExample(_explained(str(error))) from None


def _explained(complaint: str) -> str:
    """msgspec's message, with the place in front and the fix behind."""
    found = _PLACE.search(complaint)
    place = found["place"] if found else ""
    what = complaint[: found.start()] if found else complaint
    what = what[:_SHOWN_CHARS]
    if "unknown field" in what:
        fix = "it is not acted on: remove it"
    elif "missing required field" in what:
        fix = "add it"
    else:
        fix = _FIXES.get(place.rpartition(".")[2], "")
    return ": ".join(part for part in (place[:_SHOWN_CHARS], what) if part) + (f"; {fix}" if fix else "")


def _chat(form: _Chat) -> ChatExample:
    messages = _messages(form.messages, "messages")
    if not any(message.role == "assistant" for message in messages):
        raise MalformedExample("messages: holds no assistant turn, so there is nothing to learn; add the answer")
    if not any(message.role == "assistant" and message.weight for message in messages):
        raise MalformedExample("messages: every assistant turn has weight 0; give one of them the weight 1")
    return ChatExample(messages=messages, tools=_tools(form, "tools"))


def _completion(form: _Completion) -> CompletionExample:
    if not form.completion.strip():
        raise MalformedExample("completion: is empty, so nothing can be learnt: write the answer, or remove the line")
    return CompletionExample(prompt=form.prompt, completion=form.completion)


def _preference(form: _Preference) -> PreferenceExample:
    messages = _messages(form.input.messages, "input.messages")
    if messages[-1].role == "assistant":
        raise MalformedExample("input.messages: ends with an assistant turn; it must end where the answer begins")
    preferred = _ending(form.preferred_output, "preferred_output")
    rejected = _ending(form.non_preferred_output, "non_preferred_output")
    if preferred == rejected:
        raise MalformedExample("preferred_output: is the same as non_preferred_output; remove the line")
    return PreferenceExample(
        messages=messages, preferred=preferred, rejected=rejected, tools=_tools(form.input, "input.tools")
    )


def _ending(turns: list[_Turn], place: str) -> tuple[Message, ...]:
    """The one answer of an ending: a tool's result after it would be learnt as if the assistant had spoken it."""
    messages = _messages(turns, place)
    if [message.role for message in messages] != ["assistant"]:
        raise MalformedExample(f"{place}: must hold one assistant turn and nothing else; put what precedes it in input")
    if messages[0].weight == 0:
        raise MalformedExample(f"{place}: weight 0 has no meaning in a preference; remove it")
    return messages


def _messages(turns: list[_Turn], place: str) -> tuple[Message, ...]:
    return tuple(_message(turn, f"{place}[{index}]") for index, turn in enumerate(turns))


def _message(turn: _Turn, place: str) -> Message:
    content = _text(turn.content)
    if turn.weight is not None and turn.role != "assistant":
        raise MalformedExample(f"{place}.weight: only an assistant turn is learnt and has a weight; remove it")
    if turn.tool_calls and turn.role != "assistant":
        raise MalformedExample(f"{place}.tool_calls: only the assistant calls tools; remove them from {turn.role}")
    if turn.tool_call_id is not None and turn.role != "tool":
        raise MalformedExample(f"{place}.tool_call_id: only a message of the role tool answers a call; remove it")
    if turn.role == "assistant" and not turn.tool_calls and not (content or "").strip():
        raise MalformedExample(f"{place}.content: is empty: write the answer, or remove the line")
    if turn.role != "assistant" and content is None:
        raise MalformedExample(f"{place}.content: is missing; write a text")
    return Message(
        # `developer` is OpenAI's newer word for `system`, which is what chat templates know.
        role="system" if turn.role == "developer" else turn.role,
        content=content or "",
        weight=1.0 if turn.weight is None else float(turn.weight),
        name=turn.name,
        tool_calls=tuple(
            _call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(turn.tool_calls or ())
        ),
        tool_call_id=turn.tool_call_id,
    )


def _text(content: str | list[_TextPart] | None) -> str | None:
    """Parts are joined as the server joins them when it answers."""
    return "\n".join(part.text for part in content) if isinstance(content, list) else content


def _call(call: _ToolCall, place: str) -> dict[str, Any]:
    """A call as chat templates expect it: the arguments are an object, and not its text."""
    arguments: object = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise MalformedExample(f"{place}.function.arguments: {_FIXES['arguments']}")
    written: dict[str, Any] = {
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
    return written if call.id is None else {"id": call.id, **written}


def _tools(form: _Chat, place: str) -> tuple[dict[str, Any], ...]:
    if not form.parallel_tool_calls:
        raise MalformedExample(
            f"{place.removesuffix('tools')}parallel_tool_calls: {_FIXES['parallel_tool_calls']}; remove it"
        )
    names = [tool.function.name for tool in form.tools or ()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise MalformedExample(f"{place}: holds the function {twice} twice; remove one")
    return tuple(_tool(tool.function) for tool in form.tools or ())


def _tool(function: _Function) -> dict[str, Any]:
    """A tool as the server shows it to chat templates when it answers."""
    written: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        written["description"] = function.description
    written["parameters"] = function.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": written}
