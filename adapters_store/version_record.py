"""The record that lies beside a version's files, so that a version directory explains itself."""

from pathlib import Path
from typing import Final

import msgspec

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.file_operations import OS_FILES, FileOperations
from adapters_store.metadata import AdapterMetadata
from adapters_store.name_document import Digest, StoredVersion

RECORD_FILE: Final = "version.json"
_MAX_BYTES: Final = 16 * 1024 * 1024


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`version.json`: the digest, when it was first published, its metadata, and the names that published it.

    The digest does not cover it, and nothing is served from it: a damaged name document is rebuilt from it.
    """

    digest: Digest
    created: str
    metadata: AdapterMetadata
    names: tuple[str, ...] = ()


def record_of(version: StoredVersion, *names: str) -> VersionRecord:
    """The record of a version that these names have."""
    return VersionRecord(digest=version.digest, created=version.created, metadata=version.metadata, names=names)


def write_version_record(directory: Path, record: VersionRecord, files: FileOperations = OS_FILES) -> None:
    """Write `version.json`, replacing it atomically.

    Raises:
        OSError: the disk refused.
    """
    replace_file(directory / RECORD_FILE, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n", files)


def read_version_record(directory: Path) -> VersionRecord:
    """The record of a version directory.

    Raises:
        ValueError: it is absent, torn, or of another version than the directory's name says.
    """
    try:
        record = msgspec.json.decode(read_limited(directory / RECORD_FILE, _MAX_BYTES), type=VersionRecord)
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from error
    if record.digest != f"sha256:{directory.name}":
        raise ValueError(f"it is the record of {record.digest}")
    return record


def add_name_to_record(directory: Path, version: StoredVersion, name: str, files: FileOperations = OS_FILES) -> None:
    """Note that a name has the version; a record that cannot be read is written anew. The caller holds its lock.

    Raises:
        OSError: the disk refused.
    """
    try:
        record = read_version_record(directory)
    except ValueError:
        record = record_of(version)
    if name not in record.names:
        write_version_record(directory, msgspec.structs.replace(record, names=(*record.names, name)), files)
