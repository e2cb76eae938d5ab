"""`python -m loadtest loads`: how long an adapter takes from the store, and from host memory, onto the device.

The engine's own loader, tiers and device memory do the work, without a model or a server.
"""

import gc
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adapters_store import BaseDescription
from adapters_store.adapter_files import WEIGHTS_FILE
from adapters_store.atomic_file import replace_file
from adapters_store.digest import directory_digest
from adapters_store.errors import SwitchyardError
from loadtest.adapters import RandomAdapter, parse_ranks
from loadtest.subject import machine
from server.config import default_cache_dir
from server.engine.messages import AdapterVersion, LoadReport, Report

_STAGES = ("hash", "read", "copy", "total")
_BUDGET = 8 << 30
_PAGE_BYTES = 16 * 30 * 2 * 3 * 64 * 4  # a KV block of SmolLM2-135M: other sizes of a page hardly change the times

Source = Literal["store", "host"]


def loads(
    base: Annotated[str, typer.Option(help="Base whose linear modules the adapters target.")] = "smollm2-135m",
    ranks: Annotated[str, typer.Option(help="Ranks of the fp16 adapters.")] = "8,16,64",
    repeats: Annotated[int, typer.Option(min=1, help="Loads of each adapter from each tier.")] = 100,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Onto which device.")] = "cpu",
    dropped_cache: Annotated[
        bool,
        typer.Option("--dropped-cache", help="Drop the files from the page cache before each load from the store."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file as well, as JSON.")] = None,
) -> None:
    """Measure loads: store to device, and host memory to device, split into hash, read and copy.

    Examples:

        python -m loadtest loads

        python -m loadtest loads --ranks 8,64 --repeats 20 --dropped-cache --out loads.json
    """
    wanted = _ranks(ranks)
    console = Console(stderr=True)
    try:
        modules = _modules(base)
    except SwitchyardError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    with tempfile.TemporaryDirectory(prefix="switchyard-loads-") as scratch, Progress(console=console) as progress:
        versions = _written(Path(scratch), BaseDescription(base, "", modules), wanted)
        task = progress.add_task("loads", total=4 * repeats * len(wanted))
        figures = measure(
            versions,
            modules,
            repeats=repeats,
            device=device,
            dropped_cache=dropped_cache,
            advance=lambda: progress.advance(task),
        )
    result = {"base": base, "device": device, "dropped_cache": dropped_cache, **machine(), "loads": figures}
    if out is not None:
        replace_file(out, json.dumps(result, indent=2).encode() + b"\n")
        console.print(f"Wrote {out}")
    Console(width=None if sys.stdout.isatty() else 120).print(_table(figures))


def measure(
    versions: Mapping[int, Sequence[AdapterVersion]],
    modules: Mapping[str, tuple[int, int]],
    *,
    repeats: int,
    device: str,
    dropped_cache: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Milliseconds of each stage, by rank and source: the median and the 99th percentile.

    `total` is what a waiting request sees: from the wish to the moment that the version may be used.
    """
    figures = []
    for rank, pair in versions.items():
        reports = {"store": list[LoadReport](), "host": list[LoadReport]()}
        waits = {"store": list[float](), "host": list[float]()}
        for report, seconds in _loads(pair, modules, repeats=repeats, device=device, dropped_cache=dropped_cache):
            reports[report.source].append(report)
            waits[report.source].append(seconds)
            advance()
        for source, ended in reports.items():
            stages = {
                "hash": [report.hash_seconds for report in ended],
                "read": [report.read_seconds for report in ended],
                "copy": [report.copy_seconds for report in ended],
                "total": waits[source],
            }
            row: dict[str, Any] = {"rank": rank, "source": source, "bytes": ended[0].size_bytes}
            figures.append(row | {name: _spread(values) for name, values in stages.items()})
    return figures


def _loads(
    pair: Sequence[AdapterVersion],
    modules: Mapping[str, tuple[int, int]],
    *,
    repeats: int,
    device: str,
    dropped_cache: bool,
) -> Iterator[tuple[LoadReport, float]]:
    """Load two versions in turns onto a device with room for one, from the store and then from host memory.

    That `repeats` times, after one that does not count.
    """
    # Whoever only loads a server with requests does without torch.
    import torch

    from server.adapters.loader import AdapterLoader, LoadFailure
    from server.adapters.residency import Residency
    from server.adapters.shared_memory import SharedMemory
    from server.adapters.version_reader import read_version
    from server.engine.page_pool import PagePool
    from server.kernels.native_library import NativeKernelsUnavailable, NativeLibrary

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.set_num_threads(1)  # as in an engine on two cores
    ended, reports = threading.Event(), list[Report]()
    read = partial(read_version, modules=modules, dtype=dtype, budget_bytes=_BUDGET)

    copy: Callable[[torch.Tensor, torch.Tensor], object] = torch.Tensor.copy_
    with suppress(NativeKernelsUnavailable):
        copy = NativeLibrary().copy

    def memory_of(count: int) -> SharedMemory:
        pool = PagePool(kv_floor=1, adapter_floor=count, page_bytes=_PAGE_BYTES)
        pages = torch.zeros(1 + pool.total, _PAGE_BYTES, dtype=torch.uint8, device=device)
        return SharedMemory(pool, pages, dtype, copy)

    probe = read(pair[0])
    if isinstance(probe, LoadFailure):
        raise RuntimeError(probe.detail)
    memory = memory_of(memory_of(1).bytes_for(probe.form) // _PAGE_BYTES)
    loader = AdapterLoader(partial(read, bytes_for=memory.bytes_for), workers=1, on_loaded=ended.set)
    residency = Residency(loader, memory=memory, host_budget_bytes=_BUDGET, report=reports.append)

    def load(version: AdapterVersion) -> tuple[LoadReport, float]:
        reports.clear()
        began = time.perf_counter()
        while True:
            ended.clear()
            residency.settle([version])
            if residency.is_resident(version.digest) or residency.failure(version.digest):
                break
            ended.wait()
        seconds = time.perf_counter() - began
        report = next(report for report in reports if isinstance(report, LoadReport))
        residency.settle([])
        if report.failure is not None:
            raise RuntimeError(f"{version.name} did not load: {report}")
        return report, seconds

    gc.collect()
    gc.freeze()  # as in an engine
    try:
        for repeat in range(repeats + 1):
            for version in pair:
                residency.unload(version.digest)
                if dropped_cache:
                    _drop_from_page_cache(Path(version.directory) / WEIGHTS_FILE)
            loads = [load(version) for version in (*pair, *pair)]
            if repeat:
                yield from loads
    finally:
        gc.unfreeze()
        loader.close()


def _modules(base: str) -> dict[str, tuple[int, int]]:
    """The shapes of a base's linear modules, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from server.engine.base_model import linear_modules, prepare_base

    prepared = prepare_base(base, quantization="nf4", cache_dir=default_cache_dir())
    config = AutoConfig.from_pretrained(prepared.directory)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        return linear_modules(AutoModelForCausalLM.from_config(config))


def _written(directory: Path, base: BaseDescription, ranks: Sequence[int]) -> dict[int, list[AdapterVersion]]:
    """Two random adapters of each rank, on the disk."""
    versions: dict[int, list[AdapterVersion]] = {}
    for rank in ranks:
        for seed in (rank, rank + 1000):
            folder = directory / f"rank-{rank}-{seed}"
            RandomAdapter(name=folder.name, rank=rank, seed=seed).write(folder, base)
            version = AdapterVersion(name=folder.name, digest=directory_digest(folder), directory=str(folder))
            versions.setdefault(rank, []).append(version)
    return versions


def _drop_from_page_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _ranks(text: str) -> tuple[int, ...]:
    try:
        return parse_ranks(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": round(1000 * statistics.median(ordered), 3), "p99": round(1000 * last, 3)}


def _table(figures: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Loads onto the device, milliseconds: median / 99th percentile")
    for column in ("rank", "from", "MiB", *_STAGES):
        table.add_column(column, justify="right")
    for row in figures:
        stages = (f"{row[stage]['p50']:.1f} / {row[stage]['p99']:.1f}" for stage in _STAGES)
        table.add_row(str(row["rank"]), str(row["source"]), f"{row['bytes'] / 2**20:.1f}", *stages)
    return table
