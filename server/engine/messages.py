"""The typed messages between the API process and the engine.

Commands go in, events come out; both are msgspec structs, so that the same objects serve in process and,
as msgpack, over a socket. Nothing here imports torch: the API process reads this module.

Invariant: every accepted `Submit` is answered by exactly one terminal event (`Failed`, or a `Tokens` with a
`finish_reason`), whatever happens to the engine.
"""

from typing import Literal

import msgspec

FallbackPolicy = Literal["base", "error"]
FallbackReason = Literal["load_failed", "checksum_mismatch", "too_large", "timeout"]
FinishReason = Literal["stop", "length", "cancelled"]
StartFailureCode = Literal["base_model_error", "configuration_error", "internal_error"]
FailureCode = Literal[
    "adapter_unavailable", "deadline_exceeded", "engine_failed", "engine_unavailable", "invalid_value"
]
EvictionReason = Literal["capacity", "unload"]
Tier = Literal["device", "host", "store"]
PreloadOutcome = Literal["useful", "wasted"]

FALLBACK_REASONS: tuple[FallbackReason, ...] = ("load_failed", "checksum_mismatch", "too_large", "timeout")


class AdapterVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable adapter version, as the API process resolved it.

    `name` is for people (logs, metric labels); `digest` ("sha256:…") is its identity and the key of its
    KV prefixes; `directory` is where its files lie.
    """

    name: str
    digest: str
    directory: str


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose the next token. `temperature` 0 is greedy; `top_k` 0 keeps the whole vocabulary.

    Penalties follow vLLM: `repetition_penalty` counts prompt and answer, the other two the answer alone.
    `logit_bias` is added to the logits of the tokens it names; `min_p` drops tokens less likely than that share
    of the likeliest; before `min_tokens` no stop token is chosen. `grammar` is llguidance's own serialised form.
    `logprobs` asks for the score of each generated token and of that many of the likeliest ones beside it (0:
    itself alone), `prompt_logprobs` for the same of the prompt.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    grammar: str | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    """Generate for one prompt. `adapter` None is the bare base.

    `tenant` shares the engine fairly with the other tenants ("" is those without one). Of one tenant's requests those
    of a higher `priority` go first. `timeout` is in seconds from the moment that the engine has the request: what
    cannot be answered in that time ends with `deadline_exceeded`.
    """

    request_id: str
    prompt: list[int]
    sampling: SamplingParams
    adapter: AdapterVersion | None = None
    fallback: FallbackPolicy = "base"
    tenant: str = ""
    priority: int = 0
    timeout: float | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Stop a request; its row and blocks are free at the next step. Unknown ids are ignored."""

    request_id: str


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag="unload"):
    """Drop a version's device copy as soon as no request uses it."""

    digest: str


class ForetoldVersion(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A version that is likely to be asked for, `rate` times a second. `pinned`: an operator wants it resident."""

    version: AdapterVersion
    rate: float
    pinned: bool = False


class Forecast(msgspec.Struct, frozen=True, kw_only=True, tag="forecast"):
    """What is predicted for the near future, the hottest first; it replaces the forecast before it."""

    versions: list[ForetoldVersion]


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """End the engine; requests still in it are cancelled."""


Command = Submit | Cancel | Unload | Forecast | Stop


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the API process must know of the resident base.

    `name` is what clients call it, `base_name` what its source is called.
    `directory` holds the tokenizer, chat template and config. `modules` gives, for every linear module an
    adapter may target, its full name and (out_features, in_features). `kernels` says what computes the linears.
    """

    name: str
    base_name: str
    architecture: str
    directory: str
    device: str
    quantization: str
    numerics: str
    kernels: str
    vocab_size: int
    max_model_len: int
    eos_token_ids: tuple[int, ...]
    kv_blocks: int
    block_size: int
    max_rows: int
    adapter_budget_bytes: int
    resident_bytes: int
    modules: dict[str, tuple[int, int]]


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The engine has its model and takes requests."""

    info: ModelInfo


class StartFailed(msgspec.Struct, frozen=True, kw_only=True, tag="start_failed"):
    """The engine cannot start with these settings; nothing follows. `code` is that of a leaf of `server.errors`."""

    code: StartFailureCode
    message: str


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The adapter's fate is known and the prompt is about to run.

    `digest` is the version that answers, None for the base. `fallback` is set when the base answers in the
    place of an adapter; `detail` then says what happened. `cached_tokens` prompt tokens came from the prefix
    cache. `tier` is the nearest one that had the adapter when the request came, None where none was asked for.
    """

    request_id: str
    digest: str | None = None
    fallback: FallbackReason | None = None
    detail: str | None = None
    cached_tokens: int = 0
    tier: Tier | None = None


class TokenScore(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How likely a token was at its place, by the model's own logits before any of the sampling parameters.

    `logprob` is the natural logarithm of its probability; `top` holds the likeliest tokens with theirs, the
    likeliest first.
    """

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


class PromptScores(msgspec.Struct, frozen=True, kw_only=True, tag="prompt_scores"):
    """Scores of the next prompt tokens, in order; the first token of a prompt has none (None).

    All of them come between `Started` and the first `Tokens`, in one message or in several.
    """

    request_id: str
    scores: list[TokenScore | None]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, tag="tokens"):
    """New tokens of one request; terminal when `finish_reason` is set. A stop token is not included.

    `scores` has one entry a token where `logprobs` were asked for, and is empty otherwise.
    """

    request_id: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    scores: list[TokenScore] = []


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The request ended with an error. `code` is that of a leaf of `server.errors`."""

    request_id: str
    code: FailureCode
    message: str
    reason: FallbackReason | None = None


class StepReport(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """One engine step. Times in seconds; `rows` sequences ran, of which `decode_rows` one token each."""

    seconds: float
    rows: int
    decode_rows: int
    prefill_tokens: int
    adapters: int


class GroupReport(msgspec.Struct, frozen=True, kw_only=True, tag="group"):
    """A same-adapter group was admitted.

    `held_seconds`: how long the window held it although a row and its adapter were free; `waited_seconds`: since
    its first request arrived; `window_seconds`: how long its window was.
    """

    digest: str | None
    size: int
    held_seconds: float
    waited_seconds: float
    window_seconds: float = 0.0


class LookupReport(msgspec.Struct, frozen=True, kw_only=True, tag="lookup"):
    """A request asked for an adapter; `tier` is the nearest one that had it."""

    name: str
    digest: str
    tier: Tier

    @property
    def hit(self) -> bool:
        """Was it on the device?"""
        return self.tier == "device"


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """A load onto the device ended; `failure` is None where it succeeded. Seconds; bytes on the device.

    `source` is the tier that it came from. `seconds` is the whole load's wall time; `hash_seconds` and `read_seconds`
    are 0 where it came from host memory. `preload`: nobody had asked for it.
    """

    name: str
    digest: str
    seconds: float
    size_bytes: int
    rank: int
    failure: FallbackReason | None = None
    source: Tier = "store"
    hash_seconds: float = 0.0
    read_seconds: float = 0.0
    copy_seconds: float = 0.0
    preload: bool = False


class EvictionReport(msgspec.Struct, frozen=True, kw_only=True, tag="eviction"):
    """A version left a tier, the device or host memory."""

    name: str
    digest: str
    reason: EvictionReason
    size_bytes: int
    tier: Tier = "device"


class PreloadReport(msgspec.Struct, frozen=True, kw_only=True, tag="preload"):
    """A preload ended: as useful with the first request that it served, as wasted when it left unused."""

    name: str
    digest: str
    outcome: PreloadOutcome


class ResidentAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """One version on the device. `pinned` while a running row uses it."""

    name: str
    digest: str
    rank: int
    size_bytes: int
    pinned: bool


class DevicePages(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the pages of the device's memory: running rows, kept prefixes, adapters; the rest is free."""

    total: int = 0
    kv: int = 0
    prefix: int = 0
    adapters: int = 0

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return self.total - self.kv - self.prefix - self.adapters


class HostContents(msgspec.Struct, frozen=True):
    """What host memory holds: how many versions, and those used latest, the longest unused first."""

    count: int = 0
    latest: list[ResidentAdapter] = []


class EngineState(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A snapshot for gauges, sent when something changed or waits, at most a few times a second.

    `oldest_waiting_seconds`: for how long the oldest request without a row has been in the engine. `kv_blocks_total`
    and `adapter_budget_bytes` are the most that each may have beside what the other uses now.
    """

    running: int
    waiting: int
    kv_blocks_used: int
    kv_blocks_total: int
    prefix_hit_tokens: int
    prefix_lookup_tokens: int
    preemptions: int
    rows_taken_back: int
    adapter_bytes: int
    adapter_budget_bytes: int
    resident: list[ResidentAdapter]
    waiting_adapters: list[str]
    oldest_waiting_seconds: float = 0.0
    host_bytes: int = 0
    host_budget_bytes: int = 0
    host: HostContents = HostContents()
    pages: DevicePages = DevicePages()


Report = StepReport | GroupReport | LookupReport | LoadReport | EvictionReport | PreloadReport | EngineState
RequestEvent = Started | PromptScores | Tokens | Failed
Event = Ready | StartFailed | RequestEvent | Report
