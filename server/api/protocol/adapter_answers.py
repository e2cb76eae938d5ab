"""What the adapter routes and the `switchyard adapters` commands say of adapters."""

from collections.abc import Sequence
from typing import Any

import msgspec

from adapters_store import AdapterEntry, AliasMove, EntryPage, Publication, RemovedAlias, Version


def entry_answer(entry: AdapterEntry) -> dict[str, Any]:
    """One adapter with its aliases and versions."""
    return {
        "id": str(entry.name),
        "object": "adapter",
        "created": entry.created,
        "aliases": dict(entry.aliases),
        "version_count": entry.version_count,
        "versions": [version_answer(version) for version in entry.versions],
        **({} if entry.history is None else {"history": msgspec.to_builtins(entry.history)}),
    }


def list_answer(page: EntryPage) -> dict[str, Any]:
    """Adapters in order; `has_more` where others follow the last."""
    return {"object": "list", "data": [entry_answer(entry) for entry in page.entries], "has_more": page.has_more}


def version_answer(version: Version) -> dict[str, Any]:
    """One version."""
    return {
        "digest": version.digest,
        "created": version.created,
        "metadata": msgspec.to_builtins(version.metadata, str_keys=True),
        "notes": msgspec.to_builtins(version.notes),
        "retired": version.retired,
        "collected": version.collected,
    }


def publication_answer(publication: Publication) -> dict[str, Any]:
    """A version that was published; `created` in the sense of the store is the HTTP status, 201 or 200."""
    return {
        "id": str(publication.version.name),
        "object": "adapter.version",
        "alias": publication.alias,
        "previous": publication.previous,
        **version_answer(publication.version),
        "warnings": list(publication.warnings),
    }


def move_answer(move: AliasMove) -> dict[str, Any]:
    """An alias that was moved."""
    return {
        "id": str(move.name),
        "object": "adapter.alias",
        "alias": move.alias,
        "digest": move.digest,
        "previous": move.previous,
        "moved": move.moved,
    }


def removed_alias_answer(removed: RemovedAlias) -> dict[str, Any]:
    """An alias that is gone."""
    alias = {"id": str(removed.name), "object": "adapter.alias", "alias": removed.alias}
    return {**alias, "digest": removed.digest, "deleted": True}


def state_answer(version: Version) -> dict[str, Any]:
    """A version after its state or its notes were changed."""
    return {"id": str(version.name), "object": "adapter.version", **version_answer(version)}


def deletion_answer(entry: AdapterEntry, tasks: Sequence[str]) -> dict[str, Any]:
    """An adapter that is gone, with a warning for each of the `tasks` that still name it."""
    warnings = [f"task:{task} names {entry.name}: it answers without it until it is published again" for task in tasks]
    return {"id": str(entry.name), "object": "adapter", "deleted": True, "warnings": warnings}
