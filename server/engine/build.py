"""From settings to an engine loop: base model, KV cache, adapters, scheduler."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from server.adapters.eviction.choice import eviction_policy
from server.adapters.loader import AdapterLoader
from server.adapters.shared_memory import SharedMemory
from server.adapters.version_reader import read_version
from server.config import MiB, Settings
from server.engine.base_model import PreparedBase, linear_modules, load_base, prepare_base
from server.engine.base_progress import Progress
from server.engine.grammar_constraint import GrammarCompiler
from server.engine.kernel_choice import choose_kernels, default_threads
from server.engine.kv_cache import KVCache
from server.engine.loop import EngineLoop
from server.engine.messages import Event, ModelInfo
from server.engine.page_pool import PagePool
from server.engine.paged_attention import ATTENTION_NAME, register_paged_attention
from server.engine.runner import Runner
from server.engine.scheduler_limits import SchedulerLimits
from server.engine.transformers_runner import TransformersRunner
from server.errors import ConfigurationError

_log = logging.getLogger(__name__)

_STEP_TOKENS = {"cuda": 512, "cpu": 64}
"""The least tokens of a step by kind of device: on a CPU each takes time of its own, and all rows wait for the last."""


@dataclass(frozen=True)
class BuiltEngine:
    """A loop that is ready to run, and what there is to say of it."""

    loop: EngineLoop
    info: ModelInfo
    runner: Runner


def build_engine(
    settings: Settings, *, deliver: Callable[[list[Event]], None], progress: Progress | None = None
) -> BuiltEngine:
    """Prepare and load the base, and lay out the device's memory.

    Raises:
        BaseModelError: the base cannot be fetched, converted or served.
        ConfigurationError: settings that do not fit the machine or one another.
    """
    device = _device(settings)
    torch.set_num_threads(settings.threads or default_threads())
    exact = settings.numerics == "exact" or device.type == "cpu"
    dtype = torch.float32 if exact else torch.bfloat16
    prepared = prepare_base(
        settings.base, quantization=settings.quantization, cache_dir=settings.cache_dir, progress=progress
    )
    register_paged_attention()
    model = load_base(prepared, device=device, dtype=dtype, attention=ATTENTION_NAME)
    modules = linear_modules(model)
    kernels = choose_kernels(settings, prepared.quantization, device)
    runner = TransformersRunner(model, exact=exact, native=kernels.native)
    pages = page_pool(settings, runner.page_bytes(settings.block_size))
    copy = kernels.native.library.copy if kernels.native else torch.Tensor.copy_
    memory = SharedMemory(pages, runner.allocate(pages.total, settings.block_size), runner.adapter_dtype, copy)
    kv_cache = KVCache(pages, settings.block_size, prefix_cache=settings.prefix_cache)
    info = _model_info(settings, prepared, model, modules, pages, kernels.name)
    read = partial(
        read_version, modules=modules, dtype=dtype, budget_bytes=memory.floor_bytes, bytes_for=memory.bytes_for
    )
    grammars = GrammarCompiler(Path(info.directory), vocab_size=info.vocab_size, eos_token_ids=info.eos_token_ids)
    grammars.prepare()
    loop = EngineLoop(
        runner,
        kv_cache,
        lambda on_loaded: AdapterLoader(
            read,
            workers=settings.adapter_load_workers,
            preload_bandwidth=settings.preload_bandwidth_bytes,
            on_loaded=on_loaded,
        ),
        grammars.compile,
        limits=SchedulerLimits(
            max_rows=settings.max_rows,
            max_batch_tokens=settings.max_batch_tokens or max(_STEP_TOKENS[device.type], 2 * settings.max_rows),
            window=settings.window_ms / 1000,
            max_group=settings.window_max_group,
            adapter_wait_timeout=settings.adapter_wait_timeout,
            window_mode=settings.window,
            fairness=settings.fairness,
            starvation_seconds=settings.starvation_seconds,
        ),
        adapter_memory=memory,
        host_budget_bytes=settings.host_cache_bytes,
        eviction=partial(eviction_policy, settings.eviction),
        eos_token_ids=frozenset(info.eos_token_ids),
        deliver=deliver,
    )
    return BuiltEngine(loop, info, runner)


def _device(settings: Settings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device is 'cuda', but torch sees no CUDA device; use --device cpu", param="device")
    wanted = "cuda" if settings.device == "auto" and torch.cuda.is_available() else settings.device
    return torch.device("cpu" if wanted == "auto" else wanted)


def page_pool(settings: Settings, page_bytes: int) -> PagePool:
    """The pages of the device's memory, shared out as the settings say; the floor of adapters is rounded up to pages.

    Raises:
        ConfigurationError: the KV cache would have no room to work in.
    """
    blocks = settings.kv_cache_bytes // page_bytes
    if blocks < 2:
        raise ConfigurationError(
            f"kv_cache_bytes holds {blocks} blocks of {page_bytes} bytes: give it at least {2 * page_bytes}",
            param="kv_cache_bytes",
        )
    adapter_floor = -(-settings.adapter_budget_bytes // page_bytes)
    shared = settings.device_memory_bytes // page_bytes - blocks - adapter_floor
    return PagePool(kv_floor=blocks, adapter_floor=adapter_floor, shared=max(0, shared), page_bytes=page_bytes)


def _model_info(
    settings: Settings,
    prepared: PreparedBase,
    model: PreTrainedModel,
    modules: dict[str, tuple[int, int]],
    pages: PagePool,
    kernels: str,
) -> ModelInfo:
    config = model.config.get_text_config()
    longest = min(_model_context(model), pages.kv_floor * settings.block_size)
    if settings.max_model_len > longest:
        raise ConfigurationError(
            f"max_model_len {settings.max_model_len} exceeds {longest}, what the model and kv_cache_bytes allow",
            param="max_model_len",
        )
    resident = sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})
    _log.info(
        "base %s: %s, %s, %s kernels, %.0f MiB resident, "
        "%d to %d KV blocks of %d tokens, %.0f to %.0f MiB for adapters",
        prepared.name,
        type(model).__name__,
        prepared.quantization,
        kernels,
        resident / MiB,
        pages.kv_floor,
        pages.kv_limit,
        settings.block_size,
        pages.adapter_floor * pages.page_bytes / MiB,
        pages.adapter_limit * pages.page_bytes / MiB,
    )
    return ModelInfo(
        name=settings.served_name or prepared.name,
        base_name=prepared.name,
        architecture=type(model).__name__,
        directory=str(prepared.directory),
        device=str(model.device),
        quantization=prepared.quantization,
        numerics=settings.numerics,
        kernels=kernels,
        vocab_size=config.vocab_size,
        max_model_len=settings.max_model_len or longest,
        eos_token_ids=_eos_token_ids(model),
        kv_blocks=pages.kv_limit,
        block_size=settings.block_size,
        max_rows=settings.max_rows,
        adapter_budget_bytes=pages.adapter_limit * pages.page_bytes,
        resident_bytes=resident,
        modules=modules,
    )


def _model_context(model: PreTrainedModel) -> int:
    """The longest context at which a token's rotation does not depend on its company.

    Dynamic and long rotary embeddings change all rotations once any position passes the original length, so a
    cached key, or another request of the batch, would be wrong from there on.
    """
    config = model.config.get_text_config()
    longest: int = config.max_position_embeddings
    rope = getattr(config, "rope_parameters", None) or {}
    per_type = [value for value in rope.values() if isinstance(value, dict)] or [rope]
    for parameters in per_type:
        if parameters.get("rope_type") in {"dynamic", "longrope"}:
            original = parameters.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            longest = min(longest, original or longest)
    return longest


def _eos_token_ids(model: PreTrainedModel) -> tuple[int, ...]:
    eos = getattr(model.generation_config, "eos_token_id", None)
    eos = model.config.eos_token_id if eos is None else eos
    if eos is None:
        return ()
    return (eos,) if isinstance(eos, int) else tuple(eos)
