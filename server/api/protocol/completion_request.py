"""`POST /v1/completions`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator

from server.api.protocol.generation_request import NEUTRAL, GenerationRequest
from server.api.protocol.strict_fields import Neutral, unsupported_value

DEFAULT_MAX_TOKENS = 16


def _prompt(value: Any) -> str | list[int]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("must be a string, a list with one string, or a list of token ids")
    if not value:
        raise ValueError("must not be empty")
    if all(type(item) is int for item in value):
        return value
    if all(isinstance(item, str | list) for item in value):
        if len(value) > 1:
            raise unsupported_value("prompt holds several prompts, which is not supported; send one request for each")
        if isinstance(value[0], str):
            return value[0]
        if value[0] and all(type(item) is int for item in value[0]):
            return list(value[0])
    raise ValueError("must be a string, a list with one string, or a list of token ids")


Prompt = Annotated[
    str | list[int], PlainValidator(_prompt, json_schema_input_type=str | list[str] | list[int] | list[list[int]])
]


class CompletionRequest(GenerationRequest):
    """Continue a prompt, given as text (special tokens as the tokenizer adds them) or as token ids (as they are)."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        **NEUTRAL,
        "add_special_tokens": Neutral(True, hint="send token ids to choose them yourself"),
        "echo": Neutral(False),
        "logprobs": Neutral(False),
        "suffix": Neutral(""),
    }

    prompt: Prompt = Field(description="A string, a list with one string, or a list of token ids; not empty.")
