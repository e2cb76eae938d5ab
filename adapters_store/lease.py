"""One server's lease on the digests that it uses."""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from adapters_store.errors import StoreBusy
from adapters_store.lease_directory import LOCK_SECONDS, LeaseDirectory, LeaseId, StoredLease
from adapters_store.names import AdapterRef
from adapters_store.records import Version
from adapters_store.store import AdapterStore

LEASE_SECONDS: Final = 60.0
"""How long a lease lives without a renewal."""

# A request waits for it, and is answered without a lease where that takes longer.
_HOLD_SECONDS: Final = 1.0
# Before its end a lease counts as lapsed for its holder, so that it outlasts every decision made on it.
_MARGIN: Final = 0.25


class Lease:
    """Holds digests against collection: from their first use until `window` seconds after their last.

    Safe to use from several threads. Call `renew` a few times in `seconds`, and `end` at the end.
    """

    def __init__(self, directory: LeaseDirectory, *, window: float, seconds: float = LEASE_SECONDS) -> None:
        self._directory = directory
        self._window = window
        self._seconds = seconds
        self._id = LeaseId.new()
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._writing = threading.Lock()
        self._state = threading.Lock()
        self._used: dict[str, float] = {}
        self._written: frozenset[str] = frozenset()
        # By the clock that never jumps, and by the one that the others see, which runs on while a machine sleeps.
        self._valid_until = (0.0, 0.0)
        self._failures = 0
        self._ended = False

    def hold(self, digest: str) -> bool:
        """Protect a digest from now on. True where it was not protected before.

        Whoever is told True must make sure that the digest still resolves: it may have been collected just before.
        Several that wait at once are protected by one write, or told at once of its failure.

        Raises:
            StoreBusy, OSError: the lease could not be written soon; the digest is protected after a later renewal.
        """
        with self._state:
            self._used[digest] = time.monotonic()
            if self._protects(digest):
                return False
            failures = self._failures
        with self._alone(_HOLD_SECONDS):
            with self._state:
                if self._protects(digest):
                    return True
                if self._failures != failures:
                    raise StoreBusy("the lease could not be written a moment ago, so it is not tried again at once")
            self._write(_HOLD_SECONDS)
        return True

    def used(self) -> frozenset[str]:
        """What the next write of the lease protects."""
        with self._state:
            return frozenset(self._used)

    def renew(self, in_use: Iterable[str] = ()) -> None:
        """Write the lease anew, without what was not used within the window; `in_use` counts as used now.

        Raises:
            StoreBusy, OSError: the lease could not be written, and lapses if that goes on.
        """
        with self._writing:
            now = time.monotonic()
            with self._state:
                self._used.update((digest, now) for digest in in_use)
                self._used = {digest: used for digest, used in self._used.items() if now - used <= self._window}
                # Before the file says so: what is used again from here on is written again.
                self._written &= self._used.keys()
            self._write()

    def end(self) -> None:
        """Give the lease up; from here on nothing is protected by it, whoever holds what.

        Raises:
            OSError: its file could not be removed; it lapses.
        """
        with self._writing:
            with self._state:
                self._used, self._written, self._ended = {}, frozenset(), True
            self._directory.remove(self._id)

    def _protects(self, digest: str) -> bool:
        """Whether the file on disk protects a digest now. The caller holds the state."""
        steady, shared = self._valid_until
        return digest in self._written and time.monotonic() < steady and time.time() < shared

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        if not self._writing.acquire(timeout=seconds):
            raise StoreBusy("the lease is being written, and that takes long: look whether the store's disk hangs")
        try:
            yield
        finally:
            self._writing.release()

    def _write(self, seconds: float = LOCK_SECONDS) -> None:
        with self._state:
            if self._ended:
                return
            digests = tuple(sorted(self._used))
        steady, shared = time.monotonic(), time.time()
        lease = StoredLease(holder=self._holder, expires=shared + self._seconds, digests=digests)
        try:
            self._directory.write(self._id, lease, seconds)
        except BaseException:
            with self._state:
                self._failures += 1
            raise
        with self._state:
            self._written = frozenset(digests)
            valid = self._seconds * (1 - _MARGIN)
            self._valid_until = steady + valid, shared + valid


def resolve_leased(store: AdapterStore, lease: Lease, ref: AdapterRef) -> Version:
    """What `ref` means now, held by the lease so that no collection takes it. One stat where it is held already.

    Raises:
        UnknownAdapter, CorruptVersion: as `AdapterStore.resolve` does.
        StoreBusy, OSError: the lease could not be written soon.
    """
    version = store.resolve(ref)
    while lease.hold(version.digest):
        again = store.resolve(ref)
        if again.digest == version.digest:
            return again
        version = again
    return version
