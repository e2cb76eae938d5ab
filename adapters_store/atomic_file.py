"""Files that are seen whole or not at all, also after a crash."""

import secrets
from contextlib import suppress
from pathlib import Path

from adapters_store.adapter_files import open_regular
from adapters_store.file_operations import OS_FILES, FileOperations, write_new_file


def replace_file(path: Path, content: bytes, files: FileOperations = OS_FILES) -> None:
    """Give `path` new content in one step: a temporary file beside it, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full or the folder is not writable; `path` is as it was, or has the new content already
            where only the last step was refused.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        write_new_file(temporary, (content,), files)
        files.rename(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            files.remove_file(temporary)
        raise
    files.sync_directory(path.parent)


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


def sync_directory(path: Path, files: FileOperations = OS_FILES) -> None:
    """Make the entries of a folder (files created, renamed or removed in it) durable."""
    files.sync_directory(path)
