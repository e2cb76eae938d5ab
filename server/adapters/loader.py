"""Adapter loads beside the step loop: reads into host memory and copies onto the device, on threads of their own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.adapters.load_queue import Job, LoadQueue, Urgency
from server.adapters.normal_form import NormalForm
from server.adapters.token_bucket import TokenBucket
from server.engine.messages import AdapterVersion, FallbackReason

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadFailure:
    """Why a version cannot serve. `transient`: the next attempt may well succeed."""

    reason: FallbackReason
    detail: str
    transient: bool = False


@dataclass(frozen=True)
class ReadVersion:
    """A version in host memory, and the seconds that reading and hashing its files took."""

    form: NormalForm
    read_seconds: float = 0.0
    hash_seconds: float = 0.0


@dataclass(frozen=True)
class Loaded:
    """The end of one read; `outcome` is the form in host memory or the failure. `seconds` is wall time."""

    version: AdapterVersion
    outcome: NormalForm | LoadFailure
    seconds: float
    read_seconds: float = 0.0
    hash_seconds: float = 0.0


@dataclass(frozen=True)
class Copied:
    """The end of one copy; `outcome` is the form on the device or the failure."""

    digest: str
    outcome: NormalForm | LoadFailure
    seconds: float


@dataclass(eq=False)
class _Pending:
    version: AdapterVersion
    preload: bool


class AdapterLoader:
    """Runs loads on its own threads and hands each result over once.

    `start` and `is_preload` may be called from any thread, the rest from the one that owns the residency. At most
    `max_pending` reads that somebody waits for are queued, running or waiting to be taken, and `max_preloads` others:
    that bounds the memory of forms that no budget counts yet. `on_loaded` is called, on a loader's thread, when
    something ended.
    """

    def __init__(
        self,
        load: Callable[[AdapterVersion], ReadVersion | LoadFailure],
        *,
        workers: int,
        max_pending: int = 8,
        max_preloads: int = 2,
        preload_bandwidth: int = 0,
        on_loaded: Callable[[], None],
    ) -> None:
        self._load = load
        self._on_loaded = on_loaded
        self._max_pending = max_pending
        self._max_preloads = max_preloads
        self._bucket = TokenBucket(preload_bandwidth)
        self._queue = LoadQueue(workers=workers, bucket=self._bucket)
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}
        self._done: dict[str, Loaded] = {}
        self._copied: list[Copied] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"adapter-load-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, version: AdapterVersion, *, preload: bool = False) -> bool:
        """Begin reading unless this version is already under way or too many are; False in the latter case.

        A queued preload of the version becomes a load that somebody waits for.
        """
        with self._lock:
            pending = self._pending.get(version.digest)
            if pending is not None:
                if pending.preload and not preload and self._queue.promote(version.digest):
                    pending.preload = False
                return True
            alike = sum(other.preload == preload for other in self._pending.values())
            if alike >= (self._max_preloads if preload else self._max_pending):
                return False
            pending = self._pending[version.digest] = _Pending(version, preload)
            urgency = Urgency.PRELOAD_READ if preload else Urgency.READ
            self._queue.put(Job(version.digest, urgency, lambda: self._read(pending)))
        return True

    def is_preload(self, digest: str) -> bool:
        """Is a read under way, or waiting to be taken, that began before anybody asked for the version?"""
        pending = self._pending.get(digest)
        return pending is not None and pending.preload

    def is_pending(self, digest: str) -> bool:
        """Is this version being read, or waiting to be taken?"""
        return digest in self._pending

    def peek(self, digest: str) -> Loaded | None:
        """The finished read of a version, left where it is."""
        return self._done.get(digest)

    def finished(self) -> list[Loaded]:
        """Every finished read that was not taken yet."""
        with self._lock:
            return list(self._done.values())

    def take(self, digest: str) -> Loaded:
        """Remove a finished read; its version may be read again afterwards."""
        with self._lock:
            del self._pending[digest]
            return self._done.pop(digest)

    def copy(self, version: AdapterVersion, copy: Callable[[], NormalForm], *, preload: bool) -> None:
        """Copy a form onto the device; the caller has reserved its place."""
        urgency = Urgency.PRELOAD_COPY if preload else Urgency.COPY
        self._queue.put(Job(version.digest, urgency, lambda: self._copy(version, copy)))

    def promote_copy(self, digest: str) -> None:
        """Somebody waits for this copy now."""
        self._queue.promote(digest)

    def take_copied(self) -> list[Copied]:
        """Remove the finished copies, in the order in which they ended."""
        with self._lock:
            copied, self._copied = self._copied, []
            return copied

    def close(self) -> None:
        """Let running work end and start no more."""
        self._queue.close()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._queue.run_one():
            self._on_loaded()

    def _read(self, pending: _Pending) -> None:
        version, began = pending.version, time.perf_counter()
        try:
            read = self._load(version)
        except Exception as error:  # a load must never take the engine with it, whatever a file made a library do
            read = _unforeseen(version, error)
        seconds = time.perf_counter() - began
        if isinstance(read, LoadFailure):
            loaded = Loaded(version, read, seconds)
        else:
            loaded = Loaded(version, read.form, seconds, read.read_seconds, read.hash_seconds)
            if pending.preload:
                self._bucket.spend(read.form.size_bytes)
        with self._lock:
            self._done[version.digest] = loaded

    def _copy(self, version: AdapterVersion, copy: Callable[[], NormalForm]) -> None:
        began = time.perf_counter()
        outcome: NormalForm | LoadFailure
        try:
            outcome = copy()
        except Exception as error:  # as above
            outcome = _unforeseen(version, error)
        with self._lock:
            self._copied.append(Copied(version.digest, outcome, time.perf_counter() - began))


def _unforeseen(version: AdapterVersion, error: Exception) -> LoadFailure:
    _log.exception("the load of %s failed", version.name)
    detail = f"{version.name}: the load failed with {type(error).__name__}"
    return LoadFailure("load_failed", detail, transient=isinstance(error, MemoryError | RuntimeError))
