"""Mending what a verification found, as far as it can be mended without guessing.

Nothing is thrown away that the store did not make itself: what is damaged or foreign moves to `quarantine/`.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import CorruptVersion, InvalidName
from adapters_store.file_operations import make_durable_directories, remove_tree
from adapters_store.name_directory import DOCUMENT_FILE, MAX_DOCUMENT_BYTES, file_name_of
from adapters_store.name_document import NameDocument, StoredVersion
from adapters_store.names import parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.verification import Finding, FindingKind
from adapters_store.version_directory import is_intact
from adapters_store.version_record import VersionRecord, read_version_record, write_version_record

QUARANTINE: Final = "quarantine"


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done about a finding; `action` is None where nothing could be."""

    finding: Finding
    action: str | None


@tells_full_disk
def repair(store: AdapterStore, findings: tuple[Finding, ...]) -> tuple[Repair, ...]:
    """Mend findings of `verify` on this store, in turn.

    Raises:
        StoreBusy: another process holds a lock for too long; what was mended before stays so.
        StoreFull, OSError: the disk refused; likewise.
    """
    unreferenced = {finding.path for finding in findings if finding.kind == "unreferenced"}
    return tuple(Repair(finding, _mend(store, finding, unreferenced)) for finding in findings)


def _mend(store: AdapterStore, finding: Finding, unreferenced: set[Path]) -> str | None:
    folder = finding.path.parts[0]
    if finding.kind == "damaged" and folder == "versions" and finding.path not in unreferenced:
        return None  # a name has it: publishing its content again is what mends it
    mending = _MENDINGS.get((finding.kind, folder), _BY_KIND.get(finding.kind))
    return None if mending is None else mending(store, finding.path)


def _place_in_quarantine(store: AdapterStore, path: Path) -> Path:
    make_durable_directories(store.root, (QUARANTINE,), store.files)
    return Path(QUARANTINE) / f"{'-'.join(path.parts)}.{secrets.token_hex(4)}"


def _copy_to_quarantine(store: AdapterStore, path: Path) -> str:
    """Keep a file that is about to be replaced where it is, so that at no moment there is none."""
    place = _place_in_quarantine(store, path)
    try:
        content = read_limited(store.root / path, MAX_DOCUMENT_BYTES)
    except (ValueError, OSError):  # a link, a folder, or larger than any document
        return _quarantine(store, path)
    replace_file(store.root / place, content, store.files)
    return f"copied to {place}"


def _quarantine(store: AdapterStore, path: Path) -> str:
    place = _place_in_quarantine(store, path)
    try:
        store.files.rename(store.root / path, store.root / place)
    except FileNotFoundError:
        return "it is gone"
    store.files.sync_directory(store.root / QUARANTINE)
    store.files.sync_directory((store.root / path).parent)
    return f"moved to {place}"


def _sweep(store: AdapterStore, path: Path) -> str:
    with suppress(FileNotFoundError):
        remove_tree(store.root / path, store.files)
    return "removed"


def _rewrite_record(store: AdapterStore, path: Path) -> str | None:
    """Write a `version.json` anew from the names that have the version."""
    digest = f"sha256:{path.parent.name}"
    named = [(document.name, document.version(digest)) for document in store.names.read_all()]
    having = [(name, version) for name, version in named if version is not None]
    if not having:
        return None
    with store.versions.lock(path.parts[1]):
        directory = store.root / path.parent
        if not directory.is_dir():
            return "it is gone"
        version = min((version for _, version in having), key=lambda version: version.created)
        names = tuple(name for name, _ in having)
        record = VersionRecord(digest=digest, created=version.created, metadata=version.metadata, names=names)
        write_version_record(directory, record, store.files)
    return "written anew"


def _rebuild_document(store: AdapterStore, path: Path) -> str:
    """Give a name its versions back, from the records beside their files. Where aliases pointed nobody knows."""
    found = list(_records_of(store, path.name))
    if not found:
        return _quarantine(store, path)
    name = found[0][0]
    adapter = parse_adapter_name(name)
    with store.names.lock(adapter):
        with suppress(CorruptVersion):
            store.names.read(adapter)
            return "it is whole again"
        copied = _copy_to_quarantine(store, path)
        stored = tuple(
            StoredVersion(digest=record.digest, created=record.created, metadata=record.metadata)
            for record in sorted((record for _, record in found), key=lambda record: record.created)
        )
        store.names.write(NameDocument(name=name, versions=stored, revision=int(time.time())))
    return f"{copied}; {name!r} has its {len(stored)} versions again, and no alias: promote one"


def _records_of(store: AdapterStore, file_name: str) -> Iterator[tuple[str, VersionRecord]]:
    """The name that a document file is of, with the records of its versions, those that are whole."""
    for shard in store.versions.shards():
        for digest in store.versions.digests(shard):
            directory = store.versions.path_of(digest)
            with suppress(ValueError, InvalidName):
                record = read_version_record(directory)
                names = [name for name in record.names if file_name_of(parse_adapter_name(name)) == file_name]
                if names and is_intact(directory, digest):
                    yield names[0], record


def _document_or_quarantine(store: AdapterStore, path: Path) -> str:
    return _rebuild_document(store, path) if DOCUMENT_FILE.fullmatch(path.name) else _quarantine(store, path)


_MENDINGS: Final[Mapping[tuple[FindingKind, str], Callable[[AdapterStore, Path], str | None]]] = {
    ("damaged", "names"): _document_or_quarantine,
}
_BY_KIND: Final[Mapping[FindingKind, Callable[[AdapterStore, Path], str | None]]] = {
    "damaged": _quarantine,
    "foreign": _quarantine,
    "left-over": _sweep,
    "record": _rewrite_record,
}
