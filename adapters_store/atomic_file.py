"""Files that are seen whole or not at all, also after a crash."""

import os
import secrets
from pathlib import Path

from adapters_store.adapter_files import open_regular


def replace_file(path: Path, content: bytes) -> None:
    """Give `path` new content in one step: a temporary file beside it, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full or the folder is not writable; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_limited(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        ValueError: the file is longer.
        OSError: the file is absent, unreadable or not a regular file.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return content


def sync_directory(path: Path) -> None:
    """Make the entries of a folder (files created, renamed or removed in it) durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
