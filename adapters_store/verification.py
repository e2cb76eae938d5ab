"""Looking at everything that lies in a store: what is whole, what is damaged, what does not belong there.

Nothing here is needed for serving: whoever loads a version hashes it first, and whoever reads a name document checks
it. A verification finds damage before a request does.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from adapters_store.adapter_files import ADAPTER_FILES, PROMPTING_FILE
from adapters_store.digest import verify_directory
from adapters_store.errors import CorruptTask, CorruptVersion, MissingFiles, StoreError
from adapters_store.lease_directory import LEASE_FILE, read_lease
from adapters_store.name_directory import DOCUMENT_FILE
from adapters_store.names import parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.version_directory import ABANDONED_SECONDS, HEXADECIMAL, LOCK_FILE, SHARD
from adapters_store.version_record import RECORD_FILE, read_version_record

FindingKind = Literal["damaged", "missing", "foreign", "record", "left-over", "unreferenced"]
"""`damaged`: a version, document, task, lease or base description that is not what it should be. `missing`: a
version that a name has and whose files are gone. `foreign`: what the store did not put there. `record`: a
`version.json` that is torn, or does not tell of a name that has the version. These four are faults. `left-over`: what a
killed process left behind. `unreferenced`: a version that no name has."""

FAULTS: Final[frozenset[FindingKind]] = frozenset({"damaged", "missing", "foreign", "record"})

_LOCK_NAME: Final = ".lock"
# A file system puts the last one into its own root.
_ROOT_ENTRIES: Final = frozenset(
    {"versions", "names", "tasks", "leases", "base.json", "tmp", "quarantine", "lost+found"}
)
_TEMPORARY_SUFFIX: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; `path` is relative to the store's root."""

    kind: FindingKind
    path: Path
    reason: str

    @property
    def is_fault(self) -> bool:
        """Whether the store is not whole because of it."""
        return self.kind in FAULTS


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found, in order of the paths, and how much was read."""

    findings: tuple[Finding, ...]
    names: int
    versions: int
    bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is at fault."""
        return not any(finding.is_fault for finding in self.findings)


Progress = Callable[[int, int], None]
"""Told how many versions of how many have been read."""


def verify(store: AdapterStore, *, progress: Progress | None = None) -> Verification:
    """Read everything in the store, and hash every version. Others may write meanwhile.

    Raises:
        OSError: a folder of the store cannot be listed.
    """
    digests = [digest for shard in store.versions.shards() for digest in store.versions.digests(shard)]
    findings = [*_root(store), *_base(store), *_names(store), *_tasks(store), *_leases(store), *_tree(store)]
    size, named = 0, names_by_version(store)
    for done, digest in enumerate(digests):
        size += _bytes_of(store.versions.path_of(digest))
        findings += _version(store, digest, named.get(digest, set()))
        if progress is not None:
            progress(done + 1, len(digests))
    findings += _references(store, digests)
    return Verification(
        findings=tuple(sorted(findings, key=lambda finding: (finding.path, finding.kind))),
        names=len(store.names.names()),
        versions=len(digests),
        bytes=size,
    )


def _root(store: AdapterStore) -> Iterator[Finding]:
    for path in _entries(store.root):
        if path.name not in _ROOT_ENTRIES:
            yield from _unknown(path, path.relative_to(store.root))


def _base(store: AdapterStore) -> Iterator[Finding]:
    try:
        store.base()
    except StoreError as error:
        yield Finding("damaged", Path("base.json"), error.message)


def _names(store: AdapterStore) -> Iterator[Finding]:
    folder = store.names.path
    for path in _entries(folder):
        relative = path.relative_to(store.root)
        if DOCUMENT_FILE.fullmatch(path.name):
            try:
                document = store.names.read_file(path.name)
            except CorruptVersion as error:
                yield Finding("damaged", relative, error.message)
                continue
            malformed = None if document is None else document.malformed_time()
            if malformed is not None:
                yield Finding("damaged", relative, f"it has {malformed[:40]!r} for a time: restore it")
        elif path.suffix == ".lock" and HEXADECIMAL.fullmatch(path.stem):
            continue
        else:
            yield from _unknown(path, relative)


def _tasks(store: AdapterStore) -> Iterator[Finding]:
    tasks = TaskDirectory.of_store(store.root)
    for path in _entries(tasks.path):
        relative = path.relative_to(store.root)
        if DOCUMENT_FILE.fullmatch(path.name):
            try:
                tasks.read_file(path.name)
            except CorruptTask as error:
                yield Finding("damaged", relative, error.message)
        elif not (path.suffix == ".lock" and HEXADECIMAL.fullmatch(path.stem)):
            yield from _unknown(path, relative)


def _leases(store: AdapterStore) -> Iterator[Finding]:
    for path in _entries(store.root / "leases"):
        relative = path.relative_to(store.root)
        if LEASE_FILE.fullmatch(path.name):
            try:
                lease = read_lease(path)
            except FileNotFoundError:
                continue
            except StoreError as error:
                yield Finding("damaged", relative, error.message)
                continue
            if lease.expires < time.time() - ABANDONED_SECONDS:
                yield Finding("left-over", relative, f"the lease of {lease.holder} lapsed long ago")
        elif path.name != _LOCK_NAME:
            yield from _unknown(path, relative)


def _tree(store: AdapterStore) -> Iterator[Finding]:
    """What lies in `versions/` beside versions, and in `tmp/` since long ago."""
    for shard in _entries(store.root / "versions"):
        relative = shard.relative_to(store.root)
        if not SHARD.fullmatch(shard.name) or not shard.is_dir() or shard.is_symlink():
            yield from _unknown(shard, relative)
            continue
        for path in _entries(shard):
            is_version = HEXADECIMAL.fullmatch(path.name) and path.name.startswith(shard.name)
            if not is_version and path.name != LOCK_FILE:
                yield from _unknown(path, path.relative_to(store.root))
    for path in _entries(store.root / "tmp"):
        if _is_abandoned(path):
            yield Finding("left-over", path.relative_to(store.root), "a version in preparation, given up")


def names_by_version(store: AdapterStore) -> dict[str, set[str]]:
    """Per digest the names that have the version now, where their documents are whole."""
    named: dict[str, set[str]] = {}
    for document in store.names.read_all():
        for version in document.versions:
            if version.collected is None:
                named.setdefault(version.digest, set()).add(document.name)
    return named


def _version(store: AdapterStore, digest: str, names: set[str]) -> Iterator[Finding]:
    directory = store.versions.path_of(digest)
    relative = directory.relative_to(store.root)
    if directory.is_symlink() or not directory.is_dir():
        if os.path.lexists(directory):
            yield Finding("foreign", relative, "it is not a folder")
        return
    try:
        verify_directory(directory, digest)
    except CorruptVersion as error:
        if not directory.is_dir():  # collected meanwhile
            return
        yield Finding("damaged", relative, error.message)
        if isinstance(error, MissingFiles):
            return
    for path in _entries(directory):
        if path.name not in (*ADAPTER_FILES, PROMPTING_FILE, RECORD_FILE):
            yield from _unknown(path, path.relative_to(store.root))
    try:
        unrecorded = names.difference(read_version_record(directory).names)
    except ValueError as error:
        if names and directory.is_dir():  # nobody misses the record of a version that no name has
            yield Finding("record", relative / RECORD_FILE, f"it is not this version's record ({error})")
    else:
        if unrecorded:  # a publisher writes the record first, so none is in the middle of it
            reason = f"{min(unrecorded)!r} has this version, and could not be rebuilt from it"
            yield Finding("record", relative / RECORD_FILE, reason)


def _references(store: AdapterStore, digests: list[str]) -> Iterator[Finding]:
    """Versions that a name has and that are not there, and versions that are there and no name has."""
    named: set[str] = set()
    for document in store.names.read_all():
        for version in document.versions:
            if version.collected is not None:
                continue
            named.add(version.digest)
            directory = store.versions.path_of(version.digest)
            if not os.path.lexists(directory) and _is_still_named(store, document.name, version.digest):
                reason = f"{document.name!r} has this version, and its files are gone: publish it again"
                yield Finding("missing", directory.relative_to(store.root), reason)
    for digest in digests:
        directory = store.versions.path_of(digest)
        if digest not in named and os.path.lexists(directory):
            yield Finding("unreferenced", directory.relative_to(store.root), "no name has this version")


def _is_still_named(store: AdapterStore, name: str, digest: str) -> bool:
    """Whether a name has a version now: it may have been collected since its document was read."""
    for document in store.names.read_all([parse_adapter_name(name)]):
        version = document.version(digest)
        return version is not None and version.collected is None
    return False


def _unknown(path: Path, relative: Path) -> Iterator[Finding]:
    """An entry that nothing of the store is called."""
    if path.name.startswith(".") and path.name.endswith(_TEMPORARY_SUFFIX):
        if _is_abandoned(path):
            yield Finding("left-over", relative, "a file that was never finished")
    elif os.path.lexists(path):
        yield Finding("foreign", relative, "the store did not put it there")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _is_abandoned(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - ABANDONED_SECONDS
    except FileNotFoundError:
        return False


def _bytes_of(directory: Path) -> int:
    try:
        return sum(path.lstat().st_size for path in directory.iterdir())
    except OSError:
        return 0
