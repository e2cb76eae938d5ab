"""A name document as the store's callers see it."""

from pathlib import Path

from adapters_store.name_document import NameDocument, StoredVersion
from adapters_store.records import AdapterEntry, HistoricMove, Version


def version_of(document: NameDocument, stored: StoredVersion, directory: Path) -> Version:
    """One version of a name; `directory` is where it lies."""
    return Version(
        name=document.adapter_name,
        digest=stored.digest,
        directory=directory,
        metadata=stored.metadata,
        created=stored.created,
        notes=stored.notes,
        retired=stored.retired,
        collected=stored.collected,
    )


def entry_of(document: NameDocument, versions: tuple[Version, ...], *, with_history: bool) -> AdapterEntry:
    """A name with the versions that are of interest."""
    history = None
    if with_history:
        history = {
            alias: tuple(HistoricMove(move.digest, move.moved, move.reason) for move in moves)
            for alias, moves in sorted(document.aliases.items())
        }
    return AdapterEntry(
        name=document.adapter_name,
        aliases=document.targets(),
        versions=versions,
        created=document.versions[0].created,
        version_count=sum(version.is_live for version in document.versions),
        history=history,
    )


def listed_versions(document: NameDocument) -> list[StoredVersion]:
    """What a list shows of a name: the versions that aliases point to and the newest, those that resolve."""
    shown = set(document.targets().values())
    newest = next((version.digest for version in reversed(document.versions) if version.is_live), None)
    return [version for version in document.versions if version.digest in shown or version.digest == newest]
