"""`POST /v1/completions`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, model_validator

from server.api.protocol.generation_request import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    NEUTRAL,
    GenerationRequest,
    ScoreCount,
)
from server.api.protocol.strict_fields import Neutral, refused_field

DEFAULT_MAX_TOKENS = 16

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "continue a text": {"model": "base", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0},
    "several prompts, several choices": {
        "model": "base",
        "prompt": ["One, two,", "Red, green,"],
        "n": 2,
        "max_tokens": 4,
        "seed": 7,
    },
    "score a text": {"model": "base", "prompt": "To be or not to be", "max_tokens": 0, "echo": True, "logprobs": 1},
    "one of several texts": {
        "model": "base",
        "prompt": "The sky is",
        "structured_outputs": {"choice": ["blue", "grey"]},
    },
}
"""Bodies that the OpenAPI document shows, by what they do."""


def _prompts(value: Any) -> tuple[str | list[int], ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise ValueError(_FORMS)
    if not value:
        raise ValueError("must not be empty")
    if _are_ids(value):
        return (value,)
    if len(value) > MAX_CHOICES:
        raise ValueError(f"holds {len(value)} prompts; at most {MAX_CHOICES} are allowed")
    if all(isinstance(item, str) or (isinstance(item, list) and item and _are_ids(item)) for item in value):
        return tuple(value)
    raise ValueError(_FORMS)


def _are_ids(value: list[Any]) -> bool:
    return all(type(item) is int for item in value)


_FORMS = "must be a string, a list of token ids, or a list of several of either"

Prompts = Annotated[
    tuple[str | list[int], ...],
    PlainValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CompletionRequest(GenerationRequest):
    """Continue prompts, given as text (special tokens as the tokenizer adds them) or as token ids (as they are)."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        **NEUTRAL,
        "messages": Neutral(hint="send conversations to /v1/chat/completions"),
        "suffix": Neutral(""),
        "tools": Neutral(hint="send conversations to /v1/chat/completions"),
    }

    prompt: Prompts = Field(
        description="A string or a list of token ids, or a list of up to 128 of either; not empty. Choice `i` of "
        "prompt `p` has the index `p * n + i`."
    )
    add_special_tokens: bool = Field(
        True, description="Add the tokenizer's special tokens (a beginning of text) to a prompt that is text."
    )
    echo: bool = Field(
        False, description="Put the prompt before the text, and its tokens before the text's in `logprobs`."
    )
    logprobs: ScoreCount = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Score the tokens of the text, each beside that many of the likeliest, 0 to 20.",
    )

    @model_validator(mode="after")
    def _not_too_many(self) -> "CompletionRequest":
        if self.choice_count > MAX_CHOICES:
            raise refused_field(
                "n", f"{self.n} choices for {len(self.prompt)} prompts are more than the {MAX_CHOICES} of one request"
            )
        return self

    @property
    def choice_count(self) -> int:
        """How many choices the answer has."""
        return len(self.prompt) * self.n

    @property
    def echoes(self) -> bool:
        """Whether the prompt stands before the text."""
        return self.echo

    @property
    def shown_logprobs(self) -> int | None:
        """How many of the likeliest tokens the client sees beside each token of the answer, None: no scores."""
        return self.logprobs
