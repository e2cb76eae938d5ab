"""The content of the store: one folder a version, at a place that its digest gives."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters_store.atomic_file import sync_directory
from adapters_store.digest import verify_directory
from adapters_store.errors import CorruptVersion
from adapters_store.file_lock import exclusive_lock


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
        """A new folder on the store's disk to prepare a version in; removed on exit unless it was installed."""
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
            OSError: the disk refused.
        """
        target = self.path_of(digest)
        target.parent.mkdir(exist_ok=True)
        sync_directory(self._versions)
        with exclusive_lock(target.parent / ".lock"):
            if os.path.lexists(target):
                if _is_intact(target, digest):
                    return target
                self._discard(target)
            prepared.rename(target)
            sync_directory(target.parent)
        return target

    def _discard(self, path: Path) -> None:
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
