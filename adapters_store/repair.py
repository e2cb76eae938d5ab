"""Mending what a verification found, as far as it can be mended without guessing.

Nothing is thrown away that the store did not make itself: what is damaged or foreign moves to `quarantine/`. Others go
on writing, so each finding is looked at once more, under the lock of whoever may have mended it meanwhile.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters_store import clock
from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import CorruptTask, CorruptVersion, InvalidName, StoreError
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import make_durable_directories, remove_tree
from adapters_store.lease_directory import LEASE_FILE, read_lease
from adapters_store.name_directory import DOCUMENT_FILE, LOCK_SECONDS, MAX_DOCUMENT_BYTES, file_name_of
from adapters_store.name_document import NameDocument, StoredVersion
from adapters_store.names import parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.verification import Finding, FindingKind, names_by_version
from adapters_store.version_directory import ABANDONED_SECONDS, HEXADECIMAL, is_intact
from adapters_store.version_record import VersionRecord, read_version_record, write_version_record

QUARANTINE: Final = "quarantine"

_WHOLE: Final = "it is whole again"
_GONE: Final = "it is gone"


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
    repairs, named = [], None
    for finding in findings:
        if finding.kind == "record":
            # All records of an old store may be incomplete, so the documents are not read for each of them.
            named = names_by_version(store) if named is None else named
            action = _rewrite_record(store, finding.path, named.get(f"sha256:{finding.path.parent.name}", set()))
        else:
            action = _mend(store, finding)
        repairs.append(Repair(finding, action))
    return tuple(repairs)


def _mend(store: AdapterStore, finding: Finding) -> str | None:
    mending = _MENDINGS.get((finding.kind, finding.path.parts[0]), _BY_KIND.get(finding.kind))
    return None if mending is None else mending(store, finding.path)


@contextmanager
def _locked(store: AdapterStore, path: Path) -> Iterator[None]:
    """Keep the writers of one document away, whatever name it is of: nobody may be able to read that."""
    lock = (store.root / path).with_suffix(".lock")
    with exclusive_lock(lock, str(path), seconds=LOCK_SECONDS, files=store.files):
        yield


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
        return _GONE
    store.files.sync_directory(store.root / QUARANTINE)
    store.files.sync_directory((store.root / path).parent)
    return f"moved to {place}"


def _sweep(store: AdapterStore, path: Path) -> str:
    with suppress(FileNotFoundError):
        remove_tree(store.root / path, store.files)
    return "removed"


def _put_version_aside(store: AdapterStore, path: Path) -> str | None:
    """A damaged version that a name has stays where it is: publishing its content again is what mends it."""
    digest = f"sha256:{path.name}"
    with store.versions.lock(path.parts[1]):
        if is_intact(store.root / path, digest):
            return _WHOLE
        return None if _having(store, digest) else _quarantine(store, path)


def _put_foreign_version_aside(store: AdapterStore, path: Path) -> str:
    if len(path.parts) != 3 or not HEXADECIMAL.fullmatch(path.name):
        return _quarantine(store, path)
    with store.versions.lock(path.parts[1]):
        return _WHOLE if is_intact(store.root / path, f"sha256:{path.name}") else _quarantine(store, path)


def _put_task_aside(store: AdapterStore, path: Path) -> str:
    with _locked(store, path):
        try:
            task = TaskDirectory.of_store(store.root).read_file(path.name)
        except CorruptTask:
            return _quarantine(store, path)
    return _GONE if task is None else _WHOLE


def _put_lease_aside(store: AdapterStore, path: Path) -> str:
    with store.leases.lock():
        try:
            read_lease(store.root / path)
        except FileNotFoundError:
            return _GONE
        except StoreError:
            return _quarantine(store, path)
    return _WHOLE


def _put_base_aside(store: AdapterStore, path: Path) -> str:
    with suppress(StoreError):
        store.base()
        return _WHOLE
    return _quarantine(store, path)


def _sweep_lease(store: AdapterStore, path: Path) -> str:
    """Whoever holds it may have been asleep."""
    if not LEASE_FILE.fullmatch(path.name):
        return _sweep(store, path)
    with store.leases.lock():
        with suppress(FileNotFoundError):
            if read_lease(store.root / path).expires >= time.time() - ABANDONED_SECONDS:
                return _WHOLE
        return _sweep(store, path)


def _having(store: AdapterStore, digest: str, names: Iterable[str] | None = None) -> dict[str, StoredVersion]:
    """Those of `names`, or of all, that have a version, with what they know of it."""
    documents = store.names.read_all(None if names is None else map(parse_adapter_name, sorted(names)))
    known = ((document.name, document.version(digest)) for document in documents)
    return {name: version for name, version in known if version is not None and version.collected is None}


def _rewrite_record(store: AdapterStore, path: Path, names: set[str]) -> str | None:
    """Write a `version.json` anew from those of `names` that have the version, and the names that it tells of itself.

    A publisher who came after `names` were read has told the record of its own.
    """
    digest, directory = f"sha256:{path.parent.name}", store.root / path.parent
    with store.versions.lock(path.parts[1]):
        if not directory.is_dir():
            return _GONE
        having = _having(store, digest, names)
        if not having:
            return None
        recorded: tuple[str, ...] = ()
        with suppress(ValueError):
            recorded = read_version_record(directory).names
        version = min(having.values(), key=lambda version: version.created)
        record = VersionRecord(
            digest=digest,
            created=version.created,
            metadata=version.metadata,
            names=(*having, *(name for name in recorded if name not in having)),
        )
        write_version_record(directory, record, store.files)
    return "written anew"


def _rebuild_document(store: AdapterStore, path: Path) -> str | None:
    """Give a name its versions back, from the records beside their files. Where aliases pointed nobody knows."""
    if not DOCUMENT_FILE.fullmatch(path.name):
        return _quarantine(store, path)
    found = list(_records_of(store, path.name))
    with _locked(store, path):
        with suppress(CorruptVersion):
            document = store.names.read_file(path.name)
            if document is None:
                return _GONE
            # One that is readable, with a time that is none, is for its owner to restore: it has its aliases.
            return _WHOLE if document.malformed_time() is None else None
        _begin_grace_anew(store)
        if not found:
            return _quarantine(store, path)
        copied, name, moment = _copy_to_quarantine(store, path), found[0][0], clock.now()
        # As if each had just lost an alias, so that the next collection does not take what was served until today.
        stored = tuple(
            StoredVersion(digest=record.digest, created=record.created, metadata=record.metadata, unaliased=moment)
            for record in sorted((record for _, record in found), key=lambda record: record.created)
        )
        store.names.write(NameDocument(name=name, versions=stored, revision=int(time.time())))
    return f"{copied}; {name!r} has its {len(stored)} versions again, and no alias: promote one"


def _begin_grace_anew(store: AdapterStore) -> None:
    """Let no collection soon take what only the damaged document may have named: records may name nobody."""
    named = {version.digest for document in store.names.read_all() for version in document.versions}
    for shard in store.versions.shards():
        for digest in store.versions.digests(shard):
            if digest not in named and not _is_recorded(store.versions.path_of(digest)):
                store.versions.touch(digest)


def _is_recorded(directory: Path) -> bool:
    try:
        return bool(read_version_record(directory).names)
    except ValueError:
        return False


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


_MENDINGS: Final[Mapping[tuple[FindingKind, str], Callable[[AdapterStore, Path], str | None]]] = {
    ("damaged", "base.json"): _put_base_aside,
    ("damaged", "leases"): _put_lease_aside,
    ("damaged", "names"): _rebuild_document,
    ("damaged", "tasks"): _put_task_aside,
    ("damaged", "versions"): _put_version_aside,
    ("foreign", "versions"): _put_foreign_version_aside,
    ("left-over", "leases"): _sweep_lease,
}
_BY_KIND: Final[Mapping[FindingKind, Callable[[AdapterStore, Path], str | None]]] = {
    "foreign": _quarantine,
    "left-over": _sweep,
}
