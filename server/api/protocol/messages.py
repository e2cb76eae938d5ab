"""The turns of a conversation, as OpenAI's clients send them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from server.api.json_nesting import MAX_NESTING, is_nested_too_deeply
from server.api.protocol.strict_fields import Neutral, StrictFields, refused_field, unsupported_value

MAX_MESSAGES = 4_096
MAX_TOOL_CALLS = 128
_PART_FIELDS = {"type", "text"}


def _content(value: Any) -> str:
    """The text of a message: a string, or the texts of its parts, one a line."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("must be a string or a list of text parts")
    return "\n".join(_part_text(part, f"[{index}]") for index, part in enumerate(value))


def _part_text(part: Any, place: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise ValueError(f"part {place} must be an object with a `type`")
    if part["type"] != "text":
        raise unsupported_value(f"content part {place} is of type {part['type'][:32]!r}; only text is supported")
    unknown = sorted(name for name, value in part.items() if name not in _PART_FIELDS and value is not None)
    if unknown:
        raise unsupported_value(f"content part {place} has the field {unknown[0][:64]!r}, which is not supported")
    if not isinstance(part.get("text"), str):
        raise ValueError(f"part {place} must have a string `text`")
    return str(part["text"])


Content = Annotated[str, PlainValidator(_content, json_schema_input_type=str | list[dict[str, str]])]


def _arguments(value: Any) -> dict[str, Any]:
    """The arguments of a call, which OpenAI's clients send as the JSON text that the model wrote."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            raise ValueError("must be a JSON object, as text") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object, as text")
    if is_nested_too_deeply(value):
        raise ValueError(f"is nested too deeply: at most {MAX_NESTING} levels are taken")
    return value


class CalledFunction(BaseModel):
    """The function that a call names, with its arguments as an object."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    arguments: Annotated[dict[str, Any], PlainValidator(_arguments, json_schema_input_type=str)]


class ToolCall(BaseModel):
    """A call that the assistant made in an earlier turn. `index` is what stream chunks have, and says nothing here."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] = "function"
    index: int | None = None

    def as_template_input(self) -> dict[str, Any]:
        """The call as chat templates expect it."""
        call: dict[str, Any] = {"type": self.type, "function": self.function.model_dump()}
        return call if self.id is None else {"id": self.id, **call}


class Message(StrictFields):
    """One turn of a conversation. OpenAI's `developer` is its newer word for `system`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "annotations": Neutral([]),
        "audio": Neutral(),
        "function_call": Neutral(),
        "parsed": Neutral(),
        "refusal": Neutral(),
    }

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ""
    name: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list, max_length=MAX_TOOL_CALLS)
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> "Message":
        if self.tool_calls and self.role != "assistant":
            raise refused_field("tool_calls", "only the assistant calls tools")
        if self.tool_call_id is not None and self.role != "tool":
            raise refused_field("tool_call_id", "only a message of the role tool answers a call")
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise refused_field("content", "is required")
        return self

    def as_template_input(self) -> dict[str, Any]:
        """The message as chat templates expect it."""
        written: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": self.content,
        }
        if self.name is not None:
            written["name"] = self.name
        if self.tool_calls:
            written["tool_calls"] = [call.as_template_input() for call in self.tool_calls]
        if self.tool_call_id is not None:
            written["tool_call_id"] = self.tool_call_id
        return written
