"""Leases: which digests the running servers use, so that a collection leaves them alone.

A lease is one file of one holder, replaced whole at each renewal. Nobody has to clean up after a holder that died:
its lease lapses. Adding to a lease and deciding what to collect exclude each other by one lock, so a digest is
either leased before the decision, or the holder finds out when it resolves the name once more.
"""

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import StoreError
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import OS_FILES, FileOperations
from adapters_store.name_document import Digest

LEASE_FILE: Final = re.compile(r"[0-9a-f]{32}\.json")
MAX_LEASE_BYTES: Final = 64 * 1024 * 1024
LOCK_SECONDS: Final = 10.0


class StoredLease(msgspec.Struct, frozen=True, kw_only=True):
    """The digests that `holder` (for people: host and process) uses until `expires`, in seconds since the epoch."""

    holder: str
    expires: float
    digests: tuple[Digest, ...]
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class LeaseId:
    """The identity of one lease; it is the name of its file."""

    hexadecimal: str

    @classmethod
    def new(cls) -> "LeaseId":
        return cls(secrets.token_hex(16))


class LeaseDirectory:
    """Reads and writes leases. Safe to use from several threads and processes."""

    def __init__(self, path: Path, files: FileOperations = OS_FILES) -> None:
        self._path = path
        self._files = files

    @contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Keep leases from being added to; waits `seconds` for whoever holds it.

        Raises:
            StoreBusy: another process holds it for too long.
        """
        with exclusive_lock(self._path / ".lock", "the leases", seconds=seconds, files=self._files):
            yield

    @tells_full_disk
    def write(self, lease: LeaseId, content: StoredLease, seconds: float = LOCK_SECONDS) -> None:
        """Write a lease, or renew it; waits `seconds` for the lock.

        Raises:
            StoreBusy: a collection holds the lock for too long.
            StoreFull, OSError: the disk refused; the lease is as it was.
        """
        with self.lock(seconds):
            replace_file(self._path_of(lease), msgspec.json.encode(content) + b"\n", self._files)

    def remove(self, lease: LeaseId) -> None:
        """Give a lease up."""
        with suppress(FileNotFoundError):
            self._files.remove_file(self._path_of(lease))

    def live(self) -> list[StoredLease]:
        """The leases that have not lapsed.

        Raises:
            StoreError: one cannot be read, so nobody knows what it protects.
        """
        now = time.time()
        return [lease for _, lease in self.read_all() if lease.expires > now]

    def live_digests(self) -> set[str]:
        """What a collection must leave alone.

        Raises:
            StoreError: a lease cannot be read.
        """
        return {digest for lease in self.live() for digest in lease.digests}

    def sweep(self, lapsed_seconds: float) -> list[str]:
        """Remove leases that lapsed so long ago that their holder is dead; their files' names."""
        oldest = time.time() - lapsed_seconds
        removed = []
        for lease, content in self.read_all():
            if content.expires < oldest:
                self.remove(lease)
                removed.append(f"{lease.hexadecimal}.json")
        return removed

    def read_all(self) -> Iterable[tuple[LeaseId, StoredLease]]:
        """Every lease, lapsed ones too.

        Raises:
            StoreError: one cannot be read.
        """
        for path in sorted(self._path.iterdir()):
            if LEASE_FILE.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    yield LeaseId(path.stem), read_lease(path)

    def _path_of(self, lease: LeaseId) -> Path:
        return self._path / f"{lease.hexadecimal}.json"


def read_lease(path: Path) -> StoredLease:
    """Read one lease.

    Raises:
        FileNotFoundError: it was given up.
        StoreError: it is torn, foreign or unreadable.
    """
    try:
        return msgspec.json.decode(read_limited(path, MAX_LEASE_BYTES), type=StoredLease)
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            f"leases/{path.name} in the store is not a lease ({reason}), and what it protects is unknown: move it away "
            "with `switchyard adapters verify --repair`"
        ) from error
