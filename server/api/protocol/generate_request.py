"""`POST /generate` and `POST /generate_stream`, in the form of LoRAX and TGI."""

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from adapters_store.names import BASE_NAME
from server.api.protocol.generation_request import (
    MAX_LOGPROBS,
    MAX_PRIORITY,
    MAX_TIMEOUT_SECONDS,
    GenerationRequest,
    StopStrings,
)
from server.api.protocol.strict_fields import Neutral, StrictFields, refused_field
from server.engine.messages import FallbackPolicy
from server.errors import InvalidRequest

_SEEDS = 2**63
_LORAX_BASE = "__base_model__"
_PUBLISH = "publish the adapter here, then name it in `adapter_id`"

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "continue a text": {
        "inputs": "The capital of France is",
        "parameters": {"max_new_tokens": 8, "details": True},
    },
    "on an adapter": {"inputs": "Hello", "parameters": {"adapter_id": "base", "max_new_tokens": 4, "do_sample": True}},
}
"""Bodies that the OpenAPI document shows, by what they do."""


class GenerateParameters(StrictFields):
    """How to generate. Without `do_sample`, and with nothing else that samples, the likeliest token is taken."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "adapter_source": Neutral("local", hint=f"adapters come from this server's own store: {_PUBLISH}"),
        "api_token": Neutral(hint=f"adapters come from this server's own store: {_PUBLISH}"),
        "best_of": Neutral(1, hint="send several requests with `do_sample`, and rank the answers"),
        "grammar": Neutral(hint="POST /v1/chat/completions has `response_format`"),
        "merged_adapters": Neutral(hint="publish the merged adapter, then name it in `adapter_id`"),
        "response_format": Neutral(hint="POST /v1/chat/completions has it"),
        "schema": Neutral(hint="POST /v1/chat/completions has `response_format`"),
        "top_n_tokens": Neutral(0, hint="ask for `return_k_alternatives`"),
        "typical_p": Neutral(1),
        "watermark": Neutral(False),
    }

    adapter_id: str = Field(
        BASE_NAME, min_length=1, description="What `model` is elsewhere; the base by default, or as `__base_model__`."
    )
    max_new_tokens: int | None = Field(
        None, ge=1, description="Most tokens to generate; as many as the context holds by default."
    )
    do_sample: bool = Field(False, description="Sample, instead of taking the likeliest token each time.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 to 2. Any but 1 samples, 0 does not.")
    top_p: float | None = Field(None, gt=0, le=1, description="Above 0 to 1; less than 1 samples.")
    top_k: int | None = Field(None, ge=0, lt=_SEEDS, description="How many tokens to sample from; 0 is all.")
    repetition_penalty: float | None = Field(None, gt=0, le=10, description="Above 0 to 10; 1 is none.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="As in `/v1/completions`; -2 to 2.")
    seed: int | None = Field(None, ge=0, lt=_SEEDS, description="With it a sampled text can be had again.")
    stop: StopStrings = Field((), description="Up to 16 strings that end the text; the one that did is part of it.")
    ignore_eos_token: bool = Field(False, description="Go on after the model's end-of-text token.")
    truncate: int | None = Field(None, ge=1, description="Keep so many of the last tokens of the prompt.")
    return_full_text: bool = Field(False, description="Put the prompt before the text.")
    details: bool = Field(False, description="Add why the text ended, and its tokens with their scores.")
    decoder_input_details: bool = Field(
        False, description="With `details`: add the prompt's tokens with their scores; not in a stream."
    )
    return_k_alternatives: int | None = Field(
        None,
        ge=1,
        le=MAX_LOGPROBS,
        description="With `details`: so many of the likeliest tokens beside each, 1 to 20.",
    )
    fallback: FallbackPolicy | None = Field(
        None, description="When the adapter cannot be applied: `base` answers from the base, `error` with 503."
    )

    priority: int | None = Field(
        None, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="As in `/v1/completions`: lower numbers go first."
    )
    timeout: float | None = Field(
        None, gt=0, le=MAX_TIMEOUT_SECONDS, description="As in `/v1/completions`: seconds for the whole answer."
    )

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn, by LoRAX's rule."""
        if self.temperature == 0:
            return False
        return (
            self.do_sample
            or self.temperature not in (None, 1.0)
            or self.top_p not in (None, 1.0)
            or self.top_k not in (None, 0)
        )


class GenerateBody(StrictFields):
    """One prompt."""

    inputs: str = Field(min_length=1, description="The prompt, which gets the tokenizer's special tokens.")
    parameters: GenerateParameters = Field(default_factory=GenerateParameters, description="How to generate.")
    stream: bool = Field(False, description="At `/` alone: answer as `/generate_stream` does.")

    @model_validator(mode="after")
    def _no_prompt_scores_in_a_stream(self) -> Self:
        if self.stream and self.parameters.decoder_input_details:
            raise refused_field("parameters.decoder_input_details", "is not available in a stream")
        return self


class GenerateRequest(GenerationRequest):
    """A `GenerateBody` in this server's own words. `alternatives` is how many stand beside each token."""

    prompt_field: ClassVar[str] = "inputs"

    prompt: str
    truncate: int | None = None
    return_full_text: bool = False
    details: bool = False
    alternatives: int = 0

    @classmethod
    def of(cls, body: GenerateBody) -> Self:
        """The same request as the rest of the server reads it."""
        asked = body.parameters
        sampling: dict[str, Any] = {"temperature": 0.0}
        if asked.samples:
            sampling = {
                "temperature": asked.temperature,
                "top_p": asked.top_p,
                "top_k": asked.top_k,
                "seed": asked.seed if asked.seed is not None else secrets.randbelow(_SEEDS),
            }
        tells = asked.details or body.stream
        given: dict[str, Any] = {
            **sampling,
            "model": BASE_NAME if asked.adapter_id == _LORAX_BASE else asked.adapter_id,
            "prompt": body.inputs,
            "max_tokens": asked.max_new_tokens,
            "repetition_penalty": asked.repetition_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "stop": list(asked.stop) or None,
            "include_stop_str_in_output": True,
            "ignore_eos": asked.ignore_eos_token,
            "prompt_logprobs": 0 if asked.details and asked.decoder_input_details else None,
            "stream": body.stream,
            "fallback": asked.fallback,
            "priority": asked.priority,
            "timeout": asked.timeout,
            "truncate": asked.truncate,
            "return_full_text": asked.return_full_text,
            "details": tells,
            "alternatives": (asked.return_k_alternatives or 0) if tells else 0,
        }
        return cls.model_validate(given)

    @property
    def prompt_scores_field(self) -> str:
        """As the body names it."""
        return "parameters.decoder_input_details"

    @property
    def shown_logprobs(self) -> int | None:
        """How many of the likeliest tokens stand beside each token of the answer, None: tokens are not shown."""
        return self.alternatives if self.details else None

    @property
    def limit_field(self) -> str:
        """The field that `token_limit` came from."""
        return "parameters.max_new_tokens"


class EitherRequest(GenerateRequest):
    """A body whose field `stream` says how it is answered."""

    @classmethod
    def parse(cls, body: object) -> Self:
        return cls.of(GenerateBody.parse(body))


class StreamedRequest(GenerateRequest):
    """A body whose path says that the answer is a stream, whatever its field says."""

    @classmethod
    def parse(cls, body: object) -> Self:
        return cls.of(GenerateBody.parse({**body, "stream": True} if isinstance(body, dict) else body))


class WholeRequest(GenerateRequest):
    """A body whose path says that the answer is whole."""

    @classmethod
    def parse(cls, body: object) -> Self:
        asked = GenerateBody.parse(body)
        if asked.stream:
            raise InvalidRequest("stream: POST /generate_stream streams; leave the field out here", param="stream")
        return cls.of(asked)
