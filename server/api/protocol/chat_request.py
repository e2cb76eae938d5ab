"""`POST /v1/chat/completions`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from server.api.protocol.generation_request import NEUTRAL, GenerationRequest
from server.api.protocol.strict_fields import Label, Neutral, StrictFields, unsupported_value

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


class Message(StrictFields):
    """One turn of a conversation. OpenAI's `developer` is its newer word for `system`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "annotations": Neutral([]),
        "audio": Neutral(),
        "function_call": Neutral(),
        "name": Neutral(),
        "refusal": Neutral(),
        "tool_calls": Neutral([]),
        "tool_call_id": Neutral(),
    }

    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    def as_template_input(self) -> dict[str, str]:
        """The message as chat templates expect it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ChatRequest(GenerationRequest):
    """Answer a conversation, written out by the base model's chat template."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        **NEUTRAL,
        "add_generation_prompt": Neutral(True),
        "add_special_tokens": Neutral(False),
        "audio": Neutral(),
        "chat_template": Neutral(),
        "chat_template_kwargs": Neutral({}),
        "continue_final_message": Neutral(False),
        "documents": Neutral([]),
        "echo": Neutral(False),
        "function_call": Neutral("none", "auto"),
        "functions": Neutral([]),
        "logprobs": Neutral(False),
        "modalities": Neutral(["text"]),
        "parallel_tool_calls": Label(bool),
        "prediction": Neutral(),
        "reasoning_effort": Neutral("none"),
        "response_format": Neutral({"type": "text"}),
        "tool_choice": Neutral("none", "auto"),
        "tools": Neutral([]),
        "top_logprobs": Neutral(0),
        "verbosity": Neutral("medium"),
        "web_search_options": Neutral(),
    }
    prompt_field: ClassVar[str] = "messages"

    messages: list[Message] = Field(min_length=1, description="The conversation so far, oldest first; text only.")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="OpenAI's newer name of `max_tokens`; the rest of the context by default."
    )

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatRequest":
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise PydanticCustomError(
                "value_error",
                "differs from max_completion_tokens, its newer name; send one of the two",
                {"field": "max_tokens"},
            )
        return self

    @property
    def token_limit(self) -> int | None:
        """The most tokens the client asked for, None where it named no number."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that `token_limit` came from."""
        return "max_completion_tokens" if self.max_completion_tokens is not None else "max_tokens"
