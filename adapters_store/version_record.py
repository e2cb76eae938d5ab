"""The record that lies beside a version's files, so that a version directory explains itself."""

from pathlib import Path

import msgspec

from adapters_store.atomic_file import replace_file
from adapters_store.name_document import StoredVersion

RECORD_FILE = "version.json"


def write_version_record(directory: Path, version: StoredVersion) -> None:
    """Write `version.json`: digest, time and metadata. The digest does not cover it, and nothing is served from it."""
    replace_file(directory / RECORD_FILE, msgspec.json.format(msgspec.json.encode(version), indent=1) + b"\n")
