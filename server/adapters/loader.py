"""Adapter loads beside the step loop: hash, read and normalise, at most once per version at a time."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from adapters_store.adapter_files import WEIGHTS_FILE
from adapters_store.digest import read_verified
from adapters_store.errors import ChecksumMismatch, StoreError
from server.adapters.formats import Modules, read_adapter
from server.adapters.normal_form import NormalForm
from server.engine.messages import AdapterVersion, FallbackReason

_log = logging.getLogger(__name__)

_HEADER_BYTES = 16 * 2**20
"""More than the header of a safetensors file, and an adapter's configuration, take."""


@dataclass(frozen=True)
class LoadFailure:
    """Why a version cannot serve."""

    reason: FallbackReason
    detail: str


@dataclass(frozen=True)
class Loaded:
    """The end of one load; `outcome` is the form in host memory or the failure. `seconds` is wall time."""

    version: AdapterVersion
    outcome: NormalForm | LoadFailure
    seconds: float


def load_version(
    version: AdapterVersion, modules: Modules, *, dtype: torch.dtype, budget_bytes: int
) -> NormalForm | LoadFailure:
    """Load one version into host memory in `dtype`, or say why it cannot serve.

    The very bytes that are parsed are hashed first: what serves is what was published.
    """
    directory = Path(version.directory)
    try:
        # No stored dtype is wider than four bytes, so a file beyond this cannot fit whatever it holds.
        largest_file = budget_bytes * 4 // dtype.itemsize + _HEADER_BYTES
        if (directory / WEIGHTS_FILE).stat().st_size > largest_file:
            return _too_large(version, (directory / WEIGHTS_FILE).stat().st_size, budget_bytes)
        form = read_adapter(read_verified(directory, version.digest, max_bytes=largest_file), modules)
    except ChecksumMismatch as error:
        return LoadFailure("checksum_mismatch", f"{version.name}: {error.message}")
    except FileNotFoundError:
        return LoadFailure("load_failed", f"{version.name}: its files are missing from the store")
    except OSError as error:
        return LoadFailure("load_failed", f"{version.name}: its files cannot be read: {error.strerror}")
    except (ValueError, SafetensorError, StoreError) as error:
        return LoadFailure("load_failed", f"{version.name}: {error}")
    converted = form.to(torch.device("cpu"), dtype)
    if converted.size_bytes > budget_bytes:
        return _too_large(version, converted.size_bytes, budget_bytes)
    return converted


def _too_large(version: AdapterVersion, size_bytes: int, budget_bytes: int) -> LoadFailure:
    return LoadFailure(
        "too_large",
        f"{version.name} needs {size_bytes / 2**20:.1f} MiB on the device, the whole adapter budget is "
        f"{budget_bytes / 2**20:.1f} MiB: raise SWITCHYARD_ADAPTER_BUDGET_BYTES",
    )


class AdapterLoader:
    """Runs loads on its own threads and hands each result over once.

    `start` may be called from any thread; `peek` and `take` from the thread that owns the residency. At
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
            _log.exception("the load of %s failed", version.name)
            outcome = LoadFailure("load_failed", f"{version.name}: the load failed with {type(error).__name__}")
        with self._lock:
            self._done[version.digest] = Loaded(version, outcome, time.perf_counter() - began)
        self._on_loaded()
