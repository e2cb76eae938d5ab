"""The identity of an adapter version: SHA-256 over a canonical manifest of its files."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adapters_store.adapter_files import ADAPTER_FILES, open_regular
from adapters_store.errors import CorruptVersion


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of an adapter: its name, its size in bytes and the SHA-256 of its content, in hex."""

    name: str
    size: int
    sha256: str


def manifest_digest(files: Iterable[FileRecord]) -> str:
    """The digest ("sha256:<64 hex>") of a set of files.

    It is the SHA-256 of the UTF-8 text `[[name,size,sha256],…]`: JSON without spaces, sorted by name. So it
    depends on the files' names and content, and on neither their order nor their times nor their owners.
    """
    rows = sorted([file.name, file.size, file.sha256] for file in files)
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def directory_digest(directory: Path) -> str:
    """The digest of the adapter that lies in a directory; other files there do not count.

    Raises:
        OSError: a file is missing, unreadable or not a regular file.
    """
    return manifest_digest(_file_record(directory / name) for name in ADAPTER_FILES)


def verify_directory(directory: Path, digest: str) -> None:
    """Read a version's files again and compare with its digest.

    Raises:
        CorruptVersion: a file is missing or unreadable, or the content has another digest.
    """
    try:
        found = directory_digest(directory)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = (
            f"{Path(error.filename).name} is missing" if missing and error.filename else f"{error.strerror or error}"
        )
        raise CorruptVersion(f"version {digest} cannot be read: {reason}; publish it again") from error
    if found != digest:
        raise CorruptVersion(f"version {digest} now hashes to {found}: its files were changed; publish it again")


def _file_record(path: Path) -> FileRecord:
    with open_regular(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(path.name, os.fstat(file.fileno()).st_size, sha256)
