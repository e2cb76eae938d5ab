"""The content of the store: one folder a version, at a place that its digest gives."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from adapters_store.atomic_file import sync_directory
from adapters_store.digest import verify_directory
from adapters_store.errors import CorruptVersion
from adapters_store.file_lock import exclusive_lock

# A holder may be reading a version of gigabytes, to see whether it is intact.
_LOCK_SECONDS: Final = 60.0
# Longer than any version is in preparation.
_ABANDONED_SECONDS: Final = 24 * 60 * 60.0


class VersionDirectory:
    """Installs checked folders under `versions/<first 2 hex digits>/<64 hex digits>/`, whole or not at all."""

    def __init__(self, versions: Path, staging: Path) -> None:
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
        self._sweep()
        path = self._staging / secrets.token_hex(16)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def install(self, prepared: Path, digest: str) -> Path:
        """Move a prepared folder, whose files are durable and hash to `digest`, to its place.

        An intact version that is there already stays, and the prepared one is left alone; a damaged one is
        replaced, so publishing again repairs.

        Raises:
            StoreBusy: another process installs versions there for too long.
            OSError: the disk refused.
        """
        target = self.path_of(digest)
        target.parent.mkdir(exist_ok=True)
        sync_directory(self._versions)
        with exclusive_lock(target.parent / ".lock", f"version {digest}", seconds=_LOCK_SECONDS):
            if os.path.lexists(target):
                if _is_intact(target, digest):
                    return target
                self._discard(target)
            prepared.rename(target)
            sync_directory(target.parent)
        return target

    def _sweep(self) -> None:
        """Remove what lies in the staging folder unchanged for a day. What cannot be removed stays."""
        oldest = time.time() - _ABANDONED_SECONDS
        for path in self._staging.iterdir():
            with suppress(OSError):  # another process may sweep too
                if path.lstat().st_mtime < oldest:
                    self._discard(path)

    def _discard(self, path: Path) -> None:
        """Remove a folder or file. It leaves its place first, so nobody can install or read it half removed."""
        grave = self._staging / secrets.token_hex(16)
        path.rename(grave)
        if grave.is_dir() and not grave.is_symlink():
            shutil.rmtree(grave)
        else:
            grave.unlink()


def _is_intact(path: Path, digest: str) -> bool:
    if path.is_symlink():
        return False
    try:
        verify_directory(path, digest)
    except CorruptVersion:
        return False
    return True
