"""One server's lease on the digests that it uses."""

import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Final

from adapters_store.lease_directory import LeaseDirectory, LeaseId, StoredLease
from adapters_store.names import AdapterRef
from adapters_store.records import Version
from adapters_store.store import AdapterStore

LEASE_SECONDS: Final = 60.0
"""How long a lease lives without a renewal."""

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
        self._valid_until = 0.0

    def hold(self, digest: str) -> bool:
        """Protect a digest from now on. True where it was not protected before.

        Whoever is told True must make sure that the digest still resolves: it may have been collected just before.

        Raises:
            StoreBusy, OSError: the lease could not be written; the digest is protected after a later renewal.
        """
        now = time.monotonic()
        with self._state:
            self._used[digest] = now
            if digest in self._written and now < self._valid_until:
                return False
        with self._writing:
            self._write()
        return True

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
        """Give the lease up.

        Raises:
            OSError: its file could not be removed; it lapses.
        """
        with self._writing:
            with self._state:
                self._used, self._written = {}, frozenset()
            self._directory.remove(self._id)

    def _write(self) -> None:
        with self._state:
            digests = tuple(sorted(self._used))
        began = time.monotonic()
        expires = time.time() + self._seconds
        self._directory.write(self._id, StoredLease(holder=self._holder, expires=expires, digests=digests))
        with self._state:
            self._written = frozenset(digests)
            self._valid_until = began + self._seconds * (1 - _MARGIN)


def resolve_leased(store: AdapterStore, lease: Lease, ref: AdapterRef) -> Version:
    """What `ref` means now, held by the lease so that no collection takes it. One stat where it is held already.

    Raises:
        UnknownAdapter, CorruptVersion: as `AdapterStore.resolve` does.
        StoreBusy, OSError: the lease could not be written.
    """
    version = store.resolve(ref)
    while lease.hold(version.digest):
        again = store.resolve(ref)
        if again.digest == version.digest:
            return again
        version = again
    return version
