"""One writer at a time, between threads and between processes."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters_store.errors import StoreBusy
from adapters_store.file_operations import OS_FILES, FileOperations

_RETRY_SECONDS: Final = 0.02


@contextmanager
def exclusive_lock(path: Path, subject: str, *, seconds: float, files: FileOperations = OS_FILES) -> Iterator[None]:
    """Hold the exclusive lock of a lock file, waiting `seconds` for it; the system frees it when a holder dies.

    The file stays: removing it would let two holders lock two files of one name. `subject` is what the lock
    guards, for the error.

    Raises:
        StoreBusy: another holder, perhaps a process that hangs, kept it for all that time.
        OSError: the file cannot be created or locked.
    """
    descriptor = files.open_lock(path)
    try:
        _lock(descriptor, subject, seconds)
        yield
    finally:
        os.close(descriptor)


def let_others_in() -> None:
    """Wait long enough, between two holds of one lock, for each other process that waits to try once."""
    time.sleep(_RETRY_SECONDS)


def _lock(descriptor: int, subject: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise StoreBusy(
                    f"another process has been writing {subject} for more than {seconds:g} s, so nothing was changed: "
                    "try again, or end the process if it hangs"
                ) from None
            time.sleep(_RETRY_SECONDS)
        else:
            return
