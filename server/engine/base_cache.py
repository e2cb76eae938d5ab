"""The cache of prepared base models: a directory per fingerprint, complete or absent.

A checkpoint is built in a temporary directory beside its final place and renamed into it while a file lock is
held, so a reader sees all of it or nothing, and two processes never convert the same base at once. A directory
that a killed process left behind is removed by the next one that takes the lock.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from server.engine.base_progress import Progress

__all__ = ["CacheEntry", "fingerprint", "library_versions", "locked", "prepared_entry", "synced"]

# Raised when the layout of what is cached changes: older entries are then never read again.
_FORMAT = 1
_POLL_SECONDS = 0.2
# The libraries whose code decides the bytes of a prepared checkpoint.
_LIBRARIES = ("torch", "transformers", "bitsandbytes", "gguf")


@dataclass(frozen=True)
class CacheEntry:
    """The place of one prepared checkpoint: `directory` when it is there, `lock` beside it."""

    directory: Path

    @property
    def lock(self) -> Path:
        return self.directory.with_name(self.directory.name + ".lock")

    @property
    def complete(self) -> bool:
        """Whether the checkpoint is there. It appears by a rename, so there is no partly written state."""
        return (self.directory / "config.json").is_file()

    def fill(self, build: Callable[[Path], Path], progress: Progress) -> Path:
        """Return the checkpoint's directory, built first where it is absent.

        `build` gets an empty scratch directory and returns the directory below it that is the checkpoint; the
        rest of the scratch directory is thrown away, and all of it if `build` raises.
        """
        if self.complete:
            return self.directory
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.lock, progress):
            self._build_unless_complete(build)
        return self.directory

    def _build_unless_complete(self, build: Callable[[Path], Path]) -> None:
        """Build and move into place. Only the holder of the lock may call this."""
        if not self.complete:
            self._remove_leftovers()
            scratch = Path(tempfile.mkdtemp(prefix=self._scratch_prefix, dir=self.directory.parent))
            try:
                built = build(scratch)
                synced(built)
                built.rename(self.directory)
                _sync_directory(self.directory.parent)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    @property
    def _scratch_prefix(self) -> str:
        return f".{self.directory.name}.partial-"

    def _remove_leftovers(self) -> None:
        """Remove scratch directories of killed processes. Only the holder of the lock may call this."""
        for leftover in self.directory.parent.glob(f"{self._scratch_prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if self.directory.exists():
            shutil.rmtree(self.directory)


def fingerprint(parts: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits that differ when anything in `parts` does."""
    canonical = json.dumps({"format": _FORMAT, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def prepared_entry(name: str, identity: Mapping[str, object], *, quantization: str, cache_dir: Path) -> CacheEntry:
    """Where the source called `name`, whose bytes `identity` stands for, is kept in its final form."""
    key = fingerprint({"source": dict(identity), "quantization": quantization, "libraries": library_versions()})
    return CacheEntry(cache_dir.resolve() / "bases" / f"{name}-{quantization}-{key}")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the bytes of a prepared checkpoint; read without importing them."""
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "absent"
    return found


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock on `path`; it is freed when the process dies. The file itself stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        if not _try_lock(handle.fileno()):
            with progress.stage("Waiting for another process that prepares this model"):
                while not _try_lock(handle.fileno()):
                    time.sleep(_POLL_SECONDS)
        yield


def synced(directory: Path) -> None:
    """Flush every file below `directory`, and the directories themselves, to the disk."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with (Path(folder) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        _sync_directory(Path(folder))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
