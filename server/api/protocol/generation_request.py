"""What completion and chat requests have in common."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from adapters_store.names import BASE_NAME
from adapters_store.quoting import quoted
from server.api.protocol.constraint_fields import ConstraintFields
from server.api.protocol.strict_fields import UNSUPPORTED, Label, Neutral, StrictFields, refused_field
from server.engine.messages import FallbackPolicy
from server.errors import InvalidRequest

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 512
MAX_STOP_TOKEN_IDS = 64
MAX_CHOICES = 128
MAX_LOGIT_BIASES = 1024
MAX_LOGPROBS = 20
MAX_PRIORITY = 100
MAX_TIMEOUT_SECONDS = 3600

_INT64 = 2**63
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)

NEUTRAL: Mapping[str, Neutral] = {
    # OpenAI, both endpoints
    "metadata": Label(dict),
    "prompt_cache_key": Label(str),
    "safety_identifier": Label(str),
    "service_tier": Neutral("auto", "default"),
    "store": Neutral(False),
    "user": Label(str),
    # vLLM, SGLang, LoRAX and TGI
    "adapter_source": Neutral(hint="publish the adapter, then name it in `model`"),
    "allowed_token_ids": Neutral(),
    "bad_words": Neutral([]),
    "cache_salt": Neutral(),
    "detokenize": Neutral(True),
    "kv_transfer_params": Neutral(),
    "length_penalty": Neutral(1),
    "logits_processors": Neutral([]),
    "lora": Neutral([], hint="name the adapter in `model`; it applies whole, at the scale that it was trained with"),
    "lora_path": Neutral(hint="publish the adapter, then name it in `model`"),
    "spaces_between_special_tokens": Neutral(True),
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


def _logit_bias(value: Any) -> dict[int, float]:
    if not isinstance(value, dict):
        raise ValueError("must be an object of token ids and numbers")
    if len(value) > MAX_LOGIT_BIASES:
        raise ValueError(f"holds {len(value)} tokens; at most {MAX_LOGIT_BIASES} are allowed")
    biases = {}
    for key, bias in value.items():
        if not _TOKEN_ID.fullmatch(key):
            raise ValueError(f"{key[:32]!r} is not a token id: keys are whole numbers as strings")
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise ValueError(f"the bias of token {key} must be a number from -100 to 100")
        biases[int(key)] = float(bias)
    return biases


LogitBias = Annotated[
    dict[int, float],
    PlainValidator(_logit_bias, json_schema_input_type=dict[str, Annotated[float, Field(ge=-100, le=100)]]),
]

# False is how vLLM's clients write "none of it" for what is a number otherwise.
ScoreCount = Annotated[int | None, BeforeValidator(lambda value: None if value is False else value)]


class StreamOptions(StrictFields):
    """OpenAI's `stream_options`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {"include_obfuscation": Neutral(False)}

    include_usage: bool = Field(False, description="End the stream with a chunk that holds the `usage` object.")
    continuous_usage_stats: bool = Field(
        False, description="With `include_usage`: every chunk has the `usage` of its choice so far."
    )

    @model_validator(mode="after")
    def _one_needs_the_other(self) -> "StreamOptions":
        if self.continuous_usage_stats and not self.include_usage:
            raise refused_field("continuous_usage_stats", "needs include_usage")
        return self


class GenerationRequest(ConstraintFields):
    """Fields that say what to generate with, and how."""

    neutral: ClassVar[Mapping[str, Neutral]] = NEUTRAL
    prompt_field: ClassVar[str] = "prompt"

    model: str | None = Field(
        None,
        min_length=1,
        description="`base`, an adapter (`[base:][tenant/]name[@alias|@sha256:…]`), or a task route (`task:NAME`).",
    )
    task: str | None = Field(
        None, min_length=1, description="A task route's name, in the place of `model`; the same as `task:NAME` there."
    )
    adapter_id: str | None = Field(
        None, min_length=1, description="LoRAX's name for an adapter in `model`, which is then `base` or left out."
    )
    max_tokens: int | None = Field(
        None, ge=0, description="Most tokens to generate, at least 1; 0 where only the prompt's scores are asked for."
    )
    min_tokens: int = Field(
        0,
        ge=0,
        description="Fewest tokens before the end of text or anything in `stop` or `stop_token_ids` may end it.",
    )
    n: int = Field(
        1, ge=1, le=MAX_CHOICES, description="Choices for each prompt, 1 to 128; each takes a place of its own."
    )
    best_of: int | None = Field(None, description="Only the value of `n`: choices are not ranked.")
    temperature: float = Field(
        1.0, ge=0, le=2, description="Sampling temperature, 0 to 2, 1 by default; 0 takes the likeliest token."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Share of the probability mass that is sampled from, above 0 to 1; 1 by default."
    )
    top_k: int = Field(
        0,
        ge=-1,
        lt=_INT64,
        description="How many of the likeliest tokens are sampled from; 0 (the default) or -1 takes all.",
    )
    min_p: float = Field(
        0.0, ge=0, le=1, description="Tokens less likely than this share of the likeliest are left out; 0 by default."
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Taken from the logits of tokens that the answer has already; -2 to 2."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="The same, once for each time that the answer has the token."
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Divides the positive logits of tokens in prompt or answer, and multiplies the "
        "negative ones; above 0 to 10, 1 by default.",
    )
    logit_bias: LogitBias = Field(
        default_factory=dict,
        description="Numbers from -100 to 100 that are added to logits, by token id as a string; at most 1024.",
    )
    seed: int | None = Field(
        None,
        ge=-_INT64,
        lt=_INT64,
        description="A 64-bit integer; the same seed, prompt and version give the same text, for each of `n` choices.",
    )
    stop: StopStrings = Field(
        (), description="A string, or up to 16 of at most 512 characters, that end the text and are no part of it."
    )
    include_stop_str_in_output: bool = Field(False, description="Leave the stop string that was met in the text.")
    stop_token_ids: list[int] = Field(
        default_factory=list, max_length=MAX_STOP_TOKEN_IDS, description="Up to 64 token ids that end the text."
    )
    ignore_eos: bool = Field(False, description="Go on after the model's end-of-text token.")
    skip_special_tokens: bool = Field(True, description="Leave special tokens out of the text; true by default.")
    prompt_logprobs: ScoreCount = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Score the prompt's tokens, each beside that many of the likeliest, 0 to 20; not with `stream`.",
    )
    return_token_ids: bool = Field(False, description="Add the token ids of prompt and text to the answer.")
    return_tokens_as_token_ids: bool = Field(
        False, description="In log probabilities, write a token as `token_id:17` and not as its text."
    )
    stream: bool = Field(False, description="Send the text as server-sent events, as it comes.")
    stream_options: StreamOptions | None = Field(
        None,
        description='With `stream` only: `{"include_usage": true}` adds a last chunk with the usage; '
        '`"continuous_usage_stats": true` beside it adds the usage so far to every chunk.',
    )
    fallback: FallbackPolicy | None = Field(
        None, description="When the adapter cannot be applied: `base` answers from the base, `error` with 503."
    )

    priority: int = Field(
        0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Lower numbers go first among the waiting requests of one tenant; -100 to 100, 0 by default.",
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=MAX_TIMEOUT_SECONDS,
        description="Seconds in which the whole answer must be there, above 0 to 3600; past them the request ends with "
        "504.",
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "GenerationRequest":
        if self.model is None and self.task is None and self.adapter_id is None:
            raise PydanticCustomError("missing", "is required", {"field": "model"})
        if self.adapter_id is not None and self.task is not None:
            raise refused_field("adapter_id", "may not be given together with task, which chooses the adapter")
        if self.model is not None and self.task is not None and self.model != f"task:{self.task}":
            raise refused_field("task", "and `model` name different things; send one of the two")
        if self.stream_options is not None and not self.stream:
            raise refused_field("stream_options", "may only be given when `stream` is true")
        if self.best_of not in (None, self.n):
            raise PydanticCustomError(
                UNSUPPORTED,
                "best_of is not supported by this server unless it is equal to n; ask for n choices and rank them",
                {"field": "best_of"},
            )
        if self.prompt_logprobs is not None and self.stream:
            raise refused_field("prompt_logprobs", "is not available when `stream` is true")
        if self.token_limit == 0 and not self.scores_prompt:
            raise refused_field(self.limit_field, "must be at least 1")
        if self.token_limit is not None and self.min_tokens > self.token_limit:
            raise refused_field("min_tokens", f"must be at most {self.limit_field}")
        return self

    @property
    def routed_name(self) -> str:
        """What answers, as the router reads it and the answer repeats it."""
        return self.model or self.adapter_id or f"task:{self.task}"

    def on_base(self, served_name: str) -> Self:
        """The request as one on the base of this name has to be read: with its `adapter_id`, if any, as its `model`.

        Raises:
            InvalidRequest: `model` is neither the base nor the same adapter.
        """
        if self.adapter_id is None:
            return self
        if self.model not in (None, BASE_NAME, served_name, self.adapter_id):
            raise InvalidRequest(
                f"adapter_id is {quoted(self.adapter_id)}, but model is {quoted(self.model)}: name the adapter in one "
                "of the two",
                param="adapter_id",
            )
        return self.model_copy(update={"model": self.adapter_id})

    @property
    def choice_count(self) -> int:
        """How many choices the answer has."""
        return self.n

    @property
    def echoes(self) -> bool:
        """Whether the prompt stands before the text."""
        return False

    @property
    def routed_field(self) -> str:
        """The field that `routed_name` came from."""
        return "task" if self.model is None else "model"

    @property
    def scores_prompt(self) -> bool:
        """Whether there is something to answer with when no token is generated."""
        return self.echoes or self.prompt_logprobs is not None

    @property
    def prompt_copies(self) -> int:
        """How many times the answer has the scores of each prompt: with every choice of it."""
        return self.n

    @property
    def prompt_scores_field(self) -> str:
        """The field that asks for the prompt's scores, where one does."""
        return "logprobs" if self.prompt_logprobs is None else "prompt_logprobs"

    @property
    def shown_logprobs(self) -> int | None:
        """How many of the likeliest tokens the client sees beside each token of the answer, None: no scores."""
        return None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether every chunk of a stream has the usage so far."""
        return self.stream_options is not None and self.stream_options.continuous_usage_stats

    @property
    def token_limit(self) -> int | None:
        """The most tokens the client asked for, None where it named no number."""
        return self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that `token_limit` came from."""
        return "max_tokens"
