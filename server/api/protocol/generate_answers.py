"""The shapes of the answers to `/generate`, as LoRAX's clients read them."""

from typing import Literal

from pydantic import BaseModel

from server.api.protocol.answers import Origin


class AlternativeToken(BaseModel):
    """A token that might have stood at a place."""

    id: int
    text: str
    logprob: float


class PrefillToken(BaseModel):
    """A token of the prompt; the first has no score."""

    id: int
    text: str
    logprob: float | None


class GeneratedToken(BaseModel):
    """A token of the text, with its score."""

    id: int
    text: str
    logprob: float
    special: bool
    alternative_tokens: list[AlternativeToken] | None = None


class GenerateDetails(BaseModel):
    """Why the text ended, and its tokens; `seed` is null where nothing was sampled."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    prompt_tokens: int
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[GeneratedToken]


class Generated(BaseModel):
    """The text; `details` where they were asked for."""

    generated_text: str
    details: GenerateDetails | None = None
    switchyard: Origin


class GenerateFailure(BaseModel):
    """Every answer of these endpoints that is not a success."""

    error: str
    error_type: Literal["generation", "not_found", "overloaded", "validation"]
