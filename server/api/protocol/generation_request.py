"""What completion and chat requests have in common."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from server.api.protocol.strict_fields import Label, Neutral, StrictFields
from server.engine.messages import FallbackPolicy

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 512
MAX_STOP_TOKEN_IDS = 64

_INT64 = 2**63

NEUTRAL: Mapping[str, Neutral] = {
    # OpenAI, both endpoints
    "frequency_penalty": Neutral(0),
    "logit_bias": Neutral({}),
    "metadata": Label(dict),
    "n": Neutral(1, hint="send n requests: their prompts share the cache"),
    "presence_penalty": Neutral(0),
    "prompt_cache_key": Label(str),
    "safety_identifier": Label(str),
    "service_tier": Neutral("auto", "default"),
    "store": Neutral(False),
    "user": Label(str),
    # vLLM, SGLang, LoRAX and TGI
    "adapter_id": Neutral(hint="name the adapter in `model`"),
    "adapter_source": Neutral(hint="publish the adapter, then name it in `model`"),
    "add_special_tokens": Neutral(),
    "allowed_token_ids": Neutral(),
    "bad_words": Neutral([]),
    "best_of": Neutral(1),
    "cache_salt": Neutral(),
    "detokenize": Neutral(True),
    "ebnf": Neutral(),
    "guided_choice": Neutral(),
    "guided_grammar": Neutral(),
    "guided_json": Neutral(),
    "guided_regex": Neutral(),
    "include_stop_str_in_output": Neutral(False),
    "kv_transfer_params": Neutral(),
    "length_penalty": Neutral(1),
    "logits_processors": Neutral([]),
    "lora_path": Neutral(hint="publish the adapter, then name it in `model`"),
    "min_p": Neutral(0),
    "min_tokens": Neutral(0),
    "priority": Neutral(0),
    "prompt_logprobs": Neutral(False),
    "regex": Neutral(),
    "repetition_penalty": Neutral(1),
    "return_token_ids": Neutral(False),
    "return_tokens_as_token_ids": Neutral(False),
    "skip_special_tokens": Neutral(True),
    "spaces_between_special_tokens": Neutral(True),
    "structured_outputs": Neutral(),
    "truncate_prompt_tokens": Neutral(hint="shorten the prompt before it is sent"),
    "typical_p": Neutral(1),
    "use_beam_search": Neutral(False),
    "vllm_xargs": Neutral({}),
    "watermark": Neutral(False),
}


def _stop_strings(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("must be a string or a list of strings")
    if len(stops) > MAX_STOP_STRINGS:
        raise ValueError(f"holds {len(stops)} strings; at most {MAX_STOP_STRINGS} are allowed")
    if not all(stops):
        raise ValueError("must not hold an empty string")
    if any(len(stop) > MAX_STOP_STRING_CHARS for stop in stops):
        raise ValueError(f"holds a string of more than {MAX_STOP_STRING_CHARS} characters")
    return tuple(stops)


StopStrings = Annotated[tuple[str, ...], PlainValidator(_stop_strings, json_schema_input_type=str | list[str])]


class StreamOptions(StrictFields):
    """OpenAI's `stream_options`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "include_obfuscation": Neutral(False),
        "continuous_usage_stats": Neutral(False),
    }

    include_usage: bool = Field(False, description="End the stream with a chunk that holds the `usage` object.")


class GenerationRequest(StrictFields):
    """Fields that say what to generate with, and how."""

    neutral: ClassVar[Mapping[str, Neutral]] = NEUTRAL
    prompt_field: ClassVar[str] = "prompt"

    model: str = Field(min_length=1, description="`base`, or an adapter: `[base:][tenant/]name[@alias|@sha256:…]`.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to generate, at least 1.")
    temperature: float = Field(
        1.0, ge=0, le=2, description="Sampling temperature, 0 to 2, 1 by default; 0 takes the likeliest token."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Share of the probability mass that is sampled from, above 0 to 1; 1 by default."
    )
    top_k: int = Field(
        0, ge=-1, description="How many of the likeliest tokens are sampled from; 0 (the default) or -1 takes all."
    )
    seed: int | None = Field(
        None,
        ge=-_INT64,
        lt=_INT64,
        description="A 64-bit integer; the same seed, prompt and version give the same text.",
    )
    stop: StopStrings = Field(
        (), description="A string, or up to 16 of at most 512 characters, that end the text and are no part of it."
    )
    stop_token_ids: list[int] = Field(
        default_factory=list, max_length=MAX_STOP_TOKEN_IDS, description="Up to 64 token ids that end the text."
    )
    ignore_eos: bool = Field(False, description="Go on after the model's end-of-text token.")
    stream: bool = Field(False, description="Send the text as server-sent events, as it comes.")
    stream_options: StreamOptions | None = Field(
        None, description='With `stream` only: `{"include_usage": true}` adds a last chunk with the usage.'
    )
    fallback: FallbackPolicy | None = Field(
        None, description="When the adapter cannot be applied: `base` answers from the base, `error` with 503."
    )

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "value_error", "may only be given when `stream` is true", {"field": "stream_options"}
            )
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def token_limit(self) -> int | None:
        """The most tokens the client asked for, None where it named no number."""
        return self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that `token_limit` came from."""
        return "max_tokens"
