"""Every setting of the server, in one validated place: the only reader of the environment."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MiB = 1024 * 1024

_OTHER_VARIABLES = frozenset({"SWITCHYARD_VARIANT"})
"""What others read: the Compose file."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _step_tokens(value: int) -> int:
    if value and value < 16:
        raise ValueError(f"a step has at least 16 tokens, not {value}; 0 takes what suits the device")
    return value


def default_cache_dir() -> Path:
    """Where fetched and converted base models are kept: `~/.cache/switchyard`."""
    return Path.home() / ".cache" / "switchyard"


def environment_without_settings() -> dict[str, str]:
    """This process's environment less `SWITCHYARD_*`, for a child that is handed its settings otherwise."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("SWITCHYARD_")}


def unknown_variables() -> list[str]:
    """`SWITCHYARD_*` variables that are no setting, in order: most likely misspelt."""
    known = {f"SWITCHYARD_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    return sorted(name for name in os.environ if name.upper().startswith("SWITCHYARD_") and name.upper() not in known)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    return path


def _paths(value: Any) -> Any:
    """Directories as one text, joined as in PATH."""
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


PathList = Annotated[tuple[Annotated[Path, AfterValidator(_absolute)], ...], NoDecode, BeforeValidator(_paths)]


class Settings(BaseSettings):
    """Settings from `SWITCHYARD_*` variables, overridden by command-line flags of the same name."""

    model_config = SettingsConfigDict(env_prefix="SWITCHYARD_", frozen=True, extra="forbid")

    # The resident base
    base: str = Field(
        "smollm2-135m", description="Base model: a hub id, a directory, a GGUF file, or the demo model `smollm2-135m`."
    )
    quantization: Literal["nf4", "fp4", "none"] = Field(
        "nf4", description="4-bit format of the resident weights (double quantisation included), or `none`."
    )
    numerics: Literal["default", "exact"] = Field(
        "default",
        description="`exact`: fp32 activations, KV and adapters over the dequantised weights; "
        "`default`: bf16 on CUDA; on CPU the native kernels, which round what goes into a 4-bit linear.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; `auto` takes CUDA where there is one."
    )
    cache_dir: Path = Field(
        default_factory=default_cache_dir, description="Where fetched, converted and quantised base models are kept."
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="CPU threads of the engine's step; 0 takes one per core and leaves one core to HTTP and loads."
    )
    trust_remote_code: Literal[False] = Field(
        False, description="Model code from a hub is never run; the setting exists to say so."
    )

    # HTTP
    host: str = Field("127.0.0.1", description="Address to bind. Anything but loopback requires `api_key`.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to bind; 0 takes a free one.")
    api_key: SecretStr | None = Field(
        None, description="Key that clients send as `Authorization: Bearer …`. Environment only."
    )
    served_name: str | None = Field(
        None, description="Name of the base in `/v1/models`; by default derived from `base`."
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(4 * MiB, description="Largest JSON request body, in bytes.")
    max_upload_bytes: Annotated[int, Field(ge=1024)] = Field(
        2048 * MiB, description="Largest adapter upload, in bytes."
    )
    max_queue: Annotated[int, Field(ge=0)] = Field(
        512, description="Requests that may wait beyond those running; one more is answered 429."
    )

    # Store
    store: Path = Field(Path("adapters"), description="Directory of the adapter store; created when absent.")
    max_rank: Annotated[int, Field(ge=1)] = Field(256, description="Largest rank an adapter may have.")
    adapter_roots: PathList | None = Field(
        None,
        description="Directories, absolute and joined by `:`, below which `lora_path` may name an adapter to publish.",
    )
    allow_hub_sources: bool = Field(
        False, description="Whether clients may have the server fetch adapters from a hub to publish them."
    )

    # Engine
    max_rows: Annotated[int, Field(ge=1)] = Field(32, description="Sequences that run in one batch.")
    max_batch_tokens: Annotated[int, AfterValidator(_step_tokens)] = Field(
        0,
        description="Tokens of one step, prefill chunks included; 0 takes 512 on CUDA and 64 on CPU, or twice "
        "`max_rows` if that is more. In smaller steps a short prompt waits less for the prompts of others.",
    )
    max_model_len: Annotated[int, Field(ge=0)] = Field(
        0, description="Longest prompt plus answer, in tokens; 0 takes what the model and the KV cache allow."
    )
    block_size: Annotated[int, Field(ge=1, le=256)] = Field(16, description="Tokens of one KV block.")
    kv_cache_bytes: Annotated[int, Field(ge=1)] = Field(
        512 * MiB, description="Device memory that the paged KV cache always has, in bytes."
    )
    prefix_cache: bool = Field(
        True, description="Reuse the KV blocks of equal prompt prefixes of the same adapter version."
    )

    # Adapters
    adapter_budget_bytes: Annotated[int, Field(ge=1)] = Field(
        512 * MiB, description="Device memory that adapters always have, in bytes, at their true ranks."
    )
    device_memory_bytes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Device memory for the KV cache and adapters together, in bytes; what exceeds `kv_cache_bytes` and "
        "`adapter_budget_bytes` is for whichever needs it. 0 is just their sum.",
    )
    adapter_wait_timeout: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Seconds a request waits for its adapter before the base answers (or 503)."
    )
    adapter_load_workers: Annotated[int, Field(ge=1, le=16)] = Field(
        2,
        description="Adapter loads that run beside the step loop at a time; preloads use all but one. With 1, a load "
        "that a request waits for also waits for the end of a preload's read that has begun.",
    )
    host_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        1024 * MiB,
        description="Host memory for adapters as they are stored, those on the device included, in bytes; 0 keeps "
        "none longer than a load needs it.",
    )
    preload_bandwidth_bytes: Annotated[int, Field(ge=0)] = Field(
        64 * MiB, description="Bytes per second that preloads may read from the store; 0 is without limit."
    )
    eviction: Literal["lru", "lfu", "cost", "predicted"] = Field(
        "predicted",
        description="Which adapter makes place for another: the least recently used, the least often used, the one "
        "whose byte saves the least waiting, or the same by what traffic predicts.",
    )
    preload: bool = Field(
        True, description="Bring adapters onto the device before they are asked for, by what the traffic predicts."
    )
    preload_interval: Annotated[float, Field(gt=0)] = Field(
        5.0, description="Seconds between two forecasts for the engine."
    )
    preload_top: Annotated[int, Field(ge=0, le=10_000)] = Field(
        256, description="Adapter versions of a forecast: the hottest, beside those that operators want."
    )
    preload_plan: Path | None = Field(
        None, description="File of pins and schedules, JSON or TOML; read again when it changes."
    )
    traffic_history: Path | None = Field(
        None, description="File that keeps the traffic's history; by default in `cache_dir`, one for each store."
    )
    fallback: Literal["base", "error"] = Field(
        "base", description="What a request gets whose adapter cannot be applied, unless it says itself."
    )
    window_ms: Annotated[float, Field(ge=0, le=50)] = Field(
        10.0, description="Same-adapter window: how long a busy engine holds the first request of a group for company."
    )
    window_max_group: Annotated[int, Field(ge=1)] = Field(
        16, description="Requests of one adapter that are admitted as one group."
    )

    window: Literal["fixed", "adaptive"] = Field(
        "fixed",
        description="`fixed`: the window lasts `window_ms`; `adaptive`: 10 to 50 ms while the next request of the "
        "adapter is expected soon enough to be worth waiting for, else none.",
    )
    fairness: Literal["tokens", "none"] = Field(
        "tokens",
        description="`tokens`: the tenant, and of a tenant the adapter, that was served the fewest tokens goes first; "
        "`none`: the oldest request does.",
    )
    starvation_seconds: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="After so many seconds of waiting a request is due whatever fairness and priorities say: the "
        "oldest such one has every fourth turn.",
    )

    shadow_rows: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Rows that shadows of task routes may take while answers are on their way; with 0 they run only "
        "when nobody waits for an answer.",
    )

    # Operation
    engine_restart_limit: Annotated[int, Field(ge=0)] = Field(
        5, description="Engine restarts within ten minutes before the server gives up."
    )
    engine_restart_timeout: Annotated[float, Field(gt=0)] = Field(
        300.0,
        description="Seconds that a restarted engine may take until it is ready, before it is killed and another one "
        "started; the first start has no limit, since it may fetch and quantise the base.",
    )
    engine_stall_timeout: Annotated[float, Field(gt=0)] = Field(
        120.0,
        description="Seconds of silence after which an engine that has requests is killed and started again.",
    )
    metrics_adapter_labels: Annotated[int, Field(ge=0)] = Field(
        100, description="Adapters that get a metric label of their own; the rest count as `other`."
    )
    shutdown_grace: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Seconds that open requests are given after SIGTERM before they end with an error."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level, on stderr.")

    @model_validator(mode="after")
    def _device_memory_holds_both(self) -> Self:
        least = self.kv_cache_bytes + self.adapter_budget_bytes
        if 0 < self.device_memory_bytes < least:
            raise ValueError(
                f"device_memory_bytes {self.device_memory_bytes} must be at least {least}, kv_cache_bytes and "
                "adapter_budget_bytes together, or 0 for just these"
            )
        return self

    @model_validator(mode="after")
    def _stall_outlasts_waiting(self) -> Self:
        if self.engine_stall_timeout <= self.adapter_wait_timeout:
            raise ValueError(
                f"engine_stall_timeout {self.engine_stall_timeout:g} must exceed adapter_wait_timeout "
                f"{self.adapter_wait_timeout:g}: an engine whose requests all wait for adapters is silent that long"
            )
        return self

    @model_validator(mode="after")
    def _key_beyond_loopback(self) -> Self:
        if self.host not in _LOOPBACK and not (self.api_key and self.api_key.get_secret_value()):
            raise ValueError(f"host {self.host!r} is reachable from outside: set SWITCHYARD_API_KEY, or bind 127.0.0.1")
        return self
