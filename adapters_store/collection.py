"""Garbage collection: versions that nothing uses lose their place in the store.

A version of a name goes when no alias points to it or leads back to it within `depth` moves, no live lease holds it, no
task names its digest, and it has been so for the grace period. It goes in two steps, each safe to be cut off after:

1. The name's document says that the version was collected. From here on it resolves no more. Leases cannot be added to
   in that moment (`LeaseDirectory.lock`), so a server either holds the version before, or finds it gone.
2. The files of versions that no document has any more leave their place, under the lock by which a publisher gives a
   version its name.

What deleted names and dead publishers leave behind is collected by the second step alone.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from adapters_store import clock
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import CorruptVersion
from adapters_store.file_lock import let_others_in
from adapters_store.name_document import NameDocument, StoredVersion
from adapters_store.names import AdapterName
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_references import digests_in_tasks
from adapters_store.version_directory import shard_of

# Longer than clocks of machines that share a store differ, and than a holder is suspended.
_LAPSED_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """What a collection keeps: `grace` seconds without a use, and `depth` steps back along every alias."""

    grace: float = 7 * 24 * 3600.0
    depth: int = 5


@dataclass(frozen=True, slots=True)
class CollectedVersion:
    """A version that a name loses."""

    name: AdapterName
    digest: str


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection took, or would take if it is `dry`.

    `versions` are those that names lose. `removed` are the digests whose files go, of these and of what no name had,
    and `bytes` is their size. `leased` counts the versions that only a lease or a task keeps.
    """

    dry: bool
    versions: tuple[CollectedVersion, ...]
    removed: tuple[str, ...]
    bytes: int
    leased: int


@tells_full_disk
def collect(store: AdapterStore, rules: CollectionRules, *, dry: bool = True) -> Collection:
    """Collect what nothing uses, or only say what that is.

    Raises:
        CorruptVersion, CorruptTask, StoreError: a name document, a task or a lease cannot be read, so nobody knows what
            it needs; nothing was collected.
        StoreBusy: another process holds a lock for too long; what was collected before stays so.
        StoreFull: the disk is full; the store is whole.
    """
    # One for all of the collection, since it keeps what it has parsed.
    tasks = TaskDirectory.of_store(store.root)
    held = _held(store, tasks)
    documents = {document.name: document for document in store.names.read_all_or_fail()}
    unused = {name: list(_unused(document, rules)) for name, document in documents.items()}
    going = {
        name: [version.digest for version in versions if version.digest not in held]
        for name, versions in unused.items()
    }
    if not dry:
        going = dict(_mark_all(store, tasks, [documents[name] for name, digests in going.items() if digests], rules))
    files = [digest for digest in _orphans(store, documents.values(), going, rules) if digest not in held]
    sizes = {digest: _bytes_of(store.versions.path_of(digest)) for digest in files}
    if not dry:
        files = list(_remove(store, tasks, files))
        store.leases.sweep(_LAPSED_SECONDS)
    lost = ((documents[name].adapter_name, digest) for name in sorted(going) for digest in going[name])
    return Collection(
        dry=dry,
        versions=tuple(CollectedVersion(*one) for one in lost),
        removed=tuple(files),
        bytes=sum(sizes[digest] for digest in files),
        leased=sum(version.digest in held for of_name in unused.values() for version in of_name),
    )


def _held(store: AdapterStore, tasks: TaskDirectory) -> set[str]:
    """What stays although no alias leads to it: servers use it, or the rule of a task names its digest."""
    return store.leases.live_digests() | digests_in_tasks(tasks)


def _unused(document: NameDocument, rules: CollectionRules) -> Iterator[StoredVersion]:
    """The versions of a name that only a lease or a task can keep."""
    reached, since = document.within_reach(rules.depth), document.unused_since()
    for version in document.versions:
        is_needed = version.collected is not None or version.digest in reached
        if not is_needed and _is_past(_seconds_of(document, since[version.digest]), rules):
            yield version


def _seconds_of(document: NameDocument, moment: str) -> float:
    try:
        return clock.seconds_of(moment)
    except ValueError as error:
        raise CorruptVersion(f"the document of {document.name!r} has {moment[:40]!r} for a time: restore it") from error


def _is_past(moment: float, rules: CollectionRules) -> bool:
    return time.time() - moment >= rules.grace


def _mark_all(
    store: AdapterStore, tasks: TaskDirectory, documents: list[NameDocument], rules: CollectionRules
) -> Iterator[tuple[str, list[str]]]:
    for number, document in enumerate(documents):
        if number:
            let_others_in()
        yield document.name, _mark(store, tasks, document.adapter_name, rules)


def _mark(store: AdapterStore, tasks: TaskDirectory, name: AdapterName, rules: CollectionRules) -> list[str]:
    """Note on the versions of a name that nothing uses at this moment that they are collected."""
    # Last the lock that requests wait for.
    with store.names.lock(name), store.leases.lock():
        document = store.names.read(name)
        if document is None:
            return []
        held = _held(store, tasks)
        going = [version for version in _unused(document, rules) if version.digest not in held]
        collected = clock.now()
        after = document.with_changed(*(version.as_collected(collected) for version in going))
        if after is not document:
            store.names.write(after)
    return [version.digest for version in going]


def _orphans(
    store: AdapterStore, documents: Iterable[NameDocument], going: dict[str, list[str]], rules: CollectionRules
) -> Iterator[str]:
    """The versions that no name has, in order, whose folder has not changed for the grace period.

    A publisher may be about to name a younger one; the folder's time is also when a deleted name lost it.
    """
    named: set[str] = set()
    for document in documents:
        gone = set(going.get(document.name, ()))
        named.update(v.digest for v in document.versions if v.collected is None and v.digest not in gone)
    for shard in store.versions.shards():
        for digest in store.versions.digests(shard):
            if digest not in named and _is_past(_modified(store.versions.path_of(digest)), rules):
                yield digest


def _remove(store: AdapterStore, tasks: TaskDirectory, digests: list[str]) -> Iterator[str]:
    def still_used() -> set[str]:
        documents = store.names.read_all_or_fail()
        named = {v.digest for document in documents for v in document.versions if v.collected is None}
        return named | _held(store, tasks)

    for shard, of_shard in groupby(digests, shard_of):
        yield from store.versions.remove(shard, of_shard, still_used=still_used)


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return time.time()


def _bytes_of(directory: Path) -> int:
    try:
        return sum(path.lstat().st_size for path in directory.iterdir())
    except OSError:
        return 0
