"""The identity of an adapter version: SHA-256 over a canonical manifest of its files."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from adapters_store.adapter_files import open_regular, version_files
from adapters_store.errors import ChecksumMismatch, CorruptVersion, MissingFiles

_PIECE_BYTES: Final = 256 * 1024


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
    """The digest of the adapter that lies in a directory; files that make no adapter do not count.

    `prompting.json` counts where it is there, so an adapter without one has the digest of its two files.

    Raises:
        OSError: a file is missing, unreadable or not a regular file.
    """
    return manifest_digest(_file_record(directory / name) for name in version_files(directory))


def verify_directory(directory: Path, digest: str) -> None:
    """Read a version's files again and compare with its digest.

    Raises:
        MissingFiles: a file is missing or unreadable.
        ChecksumMismatch: the content has another digest.
    """
    try:
        found = directory_digest(directory)
    except OSError as error:
        raise _missing(digest, error) from error
    _check(digest, found)


@dataclass(frozen=True, slots=True)
class VerifiedFiles:
    """Files whose content has the digest that was asked for, and the seconds that reading and hashing them took."""

    contents: Mapping[str, memoryview]
    read_seconds: float
    hash_seconds: float


def read_verified(directory: Path, digest: str, *, max_bytes: int) -> VerifiedFiles:
    """The content of a version's files by name, each read once: these very bytes have the digest.

    `max_bytes` bounds each file. Nothing is copied, and nothing mapped: whoever parses the content parses what was
    hashed, whatever happens to the file.

    Raises:
        MissingFiles: a file is missing or unreadable.
        ChecksumMismatch: the content has another digest.
        CorruptVersion: a file is larger than `max_bytes`.
    """
    read_seconds = hash_seconds = 0.0
    contents, records = {}, []
    try:
        for name in version_files(directory):
            file = _read_file(directory / name, digest, max_bytes)
            contents[name] = file.content
            records.append(FileRecord(name, len(file.content), file.sha256))
            read_seconds += file.read_seconds
            hash_seconds += file.hash_seconds
    except OSError as error:
        raise _missing(digest, error) from error
    _check(digest, manifest_digest(records))
    return VerifiedFiles(contents, read_seconds, hash_seconds)


@dataclass(frozen=True, slots=True)
class _ReadFile:
    content: memoryview
    sha256: str
    read_seconds: float
    hash_seconds: float


def _read_file(path: Path, digest: str, max_bytes: int) -> _ReadFile:
    """Read a file into one buffer, and hash each piece while it is still in the processor's cache."""
    began, hash_seconds, sha256 = time.perf_counter(), 0.0, hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise CorruptVersion(
                f"version {digest} cannot be loaded: {path.name} has {size} bytes, more than the {max_bytes} allowed; "
                "raise the limit, or publish a smaller adapter"
            )
        content, at = np.empty(size, np.uint8).data, 0
        while at < size and (count := file.readinto(content[at : at + _PIECE_BYTES])):
            hashing = time.perf_counter()
            sha256.update(content[at : at + count])
            hash_seconds += time.perf_counter() - hashing
            at += count
    read_seconds = time.perf_counter() - began - hash_seconds
    return _ReadFile(content[:at], sha256.hexdigest(), read_seconds, hash_seconds)


def _missing(digest: str, error: OSError) -> MissingFiles:
    """The error for a file that could not be read. It does not name the machine's own paths."""
    reason = error.strerror or type(error).__name__
    if isinstance(error, FileNotFoundError) and error.filename:
        reason = f"{Path(error.filename).name} is missing"
    return MissingFiles(f"version {digest} cannot be read: {reason}; publish it again")


def _check(digest: str, found: str) -> None:
    if found != digest:
        raise ChecksumMismatch(f"version {digest} now hashes to {found}: its files were changed; publish it again")


def _file_record(path: Path) -> FileRecord:
    with open_regular(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(path.name, os.fstat(file.fileno()).st_size, sha256)
