"""The content of the store: one folder a version, at a place that its digest gives."""

import os
import re
import secrets
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from adapters_store.digest import verify_directory
from adapters_store.errors import CorruptVersion
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import OS_FILES, FileOperations, remove_tree

# A holder may be reading a version of gigabytes, to see whether it is intact.
_LOCK_SECONDS: Final = 60.0
# Longer than any version is in preparation.
ABANDONED_SECONDS: Final = 24 * 60 * 60.0

LOCK_FILE: Final = ".lock"
SHARD: Final = re.compile(r"[0-9a-f]{2}")
HEXADECIMAL: Final = re.compile(r"[0-9a-f]{64}")


class VersionDirectory:
    """Installs checked folders under `versions/<first 2 hex digits>/<64 hex digits>/`, whole or not at all."""

    def __init__(self, versions: Path, staging: Path, files: FileOperations = OS_FILES) -> None:
        self._files = files
        self._versions = versions
        self._staging = staging

    def path_of(self, digest: str) -> Path:
        """Where the version of a well-formed digest ("sha256:<hex>") lies."""
        hexadecimal = digest.removeprefix("sha256:")
        return self._versions / hexadecimal[:2] / hexadecimal

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder on the store's disk to prepare a version in; removed on exit unless it was installed.

        What killed processes left beside it is removed first.
        """
        self.sweep()
        path = self._staging / secrets.token_hex(16)
        self._files.make_directory(path)
        try:
            yield path
        finally:
            with suppress(OSError):
                remove_tree(path, self._files)

    @contextmanager
    def install(self, prepared: Path, digest: str) -> Iterator[Path]:
        """Move a prepared folder, whose files are durable and hash to `digest`, to its place, and keep it there.

        An intact version that is there already stays, and the prepared one is left alone; a damaged one is
        replaced, so publishing again repairs. Until the block ends nobody removes the version, so that is where it
        gets a name.

        Raises:
            StoreBusy: another process installs versions there for too long.
            OSError: the disk refused.
        """
        target = self.path_of(digest)
        with suppress(FileExistsError):
            self._files.make_directory(target.parent)
        self._files.sync_directory(self._versions)
        with self.lock(target.parent.name):
            grave = None
            if os.path.lexists(target) and not is_intact(target, digest):
                grave = self._bury(target)
            if not os.path.lexists(target):
                self._files.rename(prepared, target)
            # Also where it was there: whoever moved it may have died before it made that durable.
            self._files.sync_directory(target.parent)
            yield target
        if grave is not None:
            with suppress(OSError):  # the version is installed; a later sweep removes the rest
                remove_tree(grave, self._files)

    def remove(self, shard: str, digests: Iterable[str], *, still_used: Callable[[], Container[str]]) -> list[str]:
        """Remove versions of one shard (the first two hex digits), those that are there and not `still_used()`.

        Whoever reads sees a version whole or not at all. `still_used` is asked once, under the lock that `install`
        holds until a version has its name, so that none gets one between the answer and the removal. The answer is
        what was removed.

        Raises:
            StoreBusy: another process installs versions there for too long.
            OSError: the disk refused; each version is there whole, or gone.
        """
        folder = self._versions / shard
        if not folder.is_dir():
            return []
        graves: list[Path] = []
        removed: list[str] = []
        with self.lock(shard):
            used = still_used()
            for digest in digests:
                target = self.path_of(digest)
                if digest not in used and os.path.lexists(target):
                    graves.append(self._bury(target))
                    removed.append(digest)
            self._files.sync_directory(folder)
        for grave in graves:
            with suppress(OSError):  # it is removed; a later sweep takes the rest
                remove_tree(grave, self._files)
        return removed

    def touch(self, digest: str) -> None:
        """Note that a version lost a name just now, which is what its time means to a collection."""
        with suppress(OSError):
            self._files.touch(self.path_of(digest))

    def shards(self) -> list[str]:
        """The shards that there are, in order."""
        return sorted(path.name for path in self._versions.iterdir() if SHARD.fullmatch(path.name) and path.is_dir())

    def digests(self, shard: str) -> list[str]:
        """The digests of a shard for which there is an entry, whatever it is, in order."""
        names = sorted(path.name for path in (self._versions / shard).iterdir())
        return [f"sha256:{name}" for name in names if HEXADECIMAL.fullmatch(name) and name.startswith(shard)]

    @contextmanager
    def lock(self, shard: str) -> Iterator[None]:
        """Keep everybody else from installing or removing the versions of a shard, whose folder exists.

        Raises:
            StoreBusy: another process holds it for too long.
        """
        path = self._versions / shard / LOCK_FILE
        with exclusive_lock(path, f"versions/{shard}", seconds=_LOCK_SECONDS, files=self._files):
            yield

    def sweep(self) -> None:
        """Remove what lies in the staging folder unchanged for a day. What cannot be removed stays."""
        oldest = time.time() - ABANDONED_SECONDS
        for path in self._staging.iterdir():
            with suppress(OSError):  # another process may sweep too
                if path.lstat().st_mtime < oldest:
                    remove_tree(self._bury(path), self._files)

    def _bury(self, path: Path) -> Path:
        """Move a folder or file out of its place whole, so that nobody can read or install it half removed."""
        grave = self._staging / secrets.token_hex(16)
        self._files.rename(path, grave)
        return grave


def shard_of(digest: str) -> str:
    """The shard of a digest: its first two hex digits."""
    return digest.removeprefix("sha256:")[:2]


def is_intact(path: Path, digest: str) -> bool:
    """Whether a version's folder is there and its files hash to its digest."""
    if path.is_symlink():
        return False
    try:
        verify_directory(path, digest)
    except CorruptVersion:
        return False
    return True
