"""Adapter loads beside the step loop: hash, read and normalise, at most once per version at a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from adapters_store.digest import directory_digest
from adapters_store.errors import StoreError
from server.adapters.formats import Modules, read_adapter
from server.adapters.normal_form import NormalForm
from server.engine.messages import AdapterVersion, FallbackReason


@dataclass(frozen=True)
class LoadFailure:
    """Why a version cannot serve."""

    reason: FallbackReason
    detail: str


@dataclass(frozen=True)
class Loaded:
    """The end of one load; `outcome` is the form on the device or the failure. `seconds` is wall time."""

    version: AdapterVersion
    outcome: NormalForm | LoadFailure
    seconds: float


def load_version(
    version: AdapterVersion, modules: Modules, *, device: torch.device, dtype: torch.dtype, budget_bytes: int
) -> NormalForm | LoadFailure:
    """Load one version, or say why it cannot serve. Its content is hashed first: what serves is what was published."""
    directory = Path(version.directory)
    try:
        digest = directory_digest(directory)
        if digest != version.digest:
            return LoadFailure(
                "checksum_mismatch", f"{version.name}: stored files hash to {digest}, not {version.digest}"
            )
        form = read_adapter(directory, modules)
    except (OSError, ValueError, SafetensorError, StoreError) as error:
        return LoadFailure("load_failed", f"{version.name}: {_without_paths(error, directory)}")
    converted = form.to(device, dtype)
    if converted.size_bytes > budget_bytes:
        needed, budget = converted.size_bytes / 2**20, budget_bytes / 2**20
        return LoadFailure(
            "too_large",
            f"{version.name} needs {needed:.1f} MiB on the device, the whole adapter budget is {budget:.1f} MiB: "
            "raise SWITCHYARD_ADAPTER_BUDGET_BYTES",
        )
    return converted


def _without_paths(error: Exception, directory: Path) -> str:
    """The error's words without the server's directories, since they reach clients."""
    if isinstance(error, FileNotFoundError):
        return "its files are missing from the store"
    return str(error).replace(str(directory), "<version>")


class AdapterLoader:
    """Runs loads on its own threads and hands each result over once.

    `start` may be called from any thread; `take` and `forget` from the thread that owns the residency. At
    most `max_pending` loads are queued, running or waiting to be taken, which bounds the memory of forms that
    no budget counts yet.
    """

    def __init__(
        self,
        load: Callable[[AdapterVersion], NormalForm | LoadFailure],
        *,
        workers: int,
        max_pending: int = 8,
        on_loaded: Callable[[], None],
    ) -> None:
        self._load = load
        self._on_loaded = on_loaded
        self._max_pending = max_pending
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="adapter-load")
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._done: dict[str, Loaded] = {}

    def start(self, version: AdapterVersion) -> bool:
        """Begin loading unless this version is already under way or too many are; False in the latter case."""
        with self._lock:
            if version.digest in self._pending:
                return True
            if len(self._pending) >= self._max_pending:
                return False
            self._pending.add(version.digest)
        self._pool.submit(self._run, version)
        return True

    def is_pending(self, digest: str) -> bool:
        """Is this version queued, loading, or waiting to be taken?"""
        return digest in self._pending

    def peek(self, digest: str) -> Loaded | None:
        """The finished load of a version, left where it is."""
        return self._done.get(digest)

    def finished(self) -> list[Loaded]:
        """Every finished load that was not taken yet."""
        with self._lock:
            return list(self._done.values())

    def take(self, digest: str) -> Loaded:
        """Remove a finished load; its version may be loaded again afterwards."""
        with self._lock:
            self._pending.discard(digest)
            return self._done.pop(digest)

    def close(self) -> None:
        """Let running loads end and start no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, version: AdapterVersion) -> None:
        began = time.perf_counter()
        try:
            outcome = self._load(version)
        except Exception as error:  # a load must never take the engine with it, whatever a file made a library do
            words = _without_paths(error, Path(version.directory))
            outcome = LoadFailure("load_failed", f"{version.name}: {type(error).__name__}: {words}")
        with self._lock:
            self._done[version.digest] = Loaded(version, outcome, time.perf_counter() - began)
        self._on_loaded()
