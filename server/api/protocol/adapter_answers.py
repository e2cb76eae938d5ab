"""What the adapter routes and the `switchyard adapters` commands say of adapters."""

from typing import Any

import msgspec

from adapters_store import AdapterEntry, AliasMove, Publication, Version


def entry_answer(entry: AdapterEntry) -> dict[str, Any]:
    """One adapter with its aliases and versions."""
    return {
        "id": str(entry.name),
        "object": "adapter",
        "created": entry.created,
        "aliases": dict(entry.aliases),
        "versions": [version_answer(version) for version in entry.versions],
    }


def list_answer(entries: list[AdapterEntry]) -> dict[str, Any]:
    """Every adapter."""
    return {"object": "list", "data": [entry_answer(entry) for entry in entries]}


def version_answer(version: Version) -> dict[str, Any]:
    """One version."""
    return {
        "digest": version.digest,
        "created": version.created,
        "metadata": msgspec.to_builtins(version.metadata, str_keys=True),
    }


def publication_answer(publication: Publication) -> dict[str, Any]:
    """A version that was published; `created` in the sense of the store is the HTTP status, 201 or 200."""
    return {
        "id": str(publication.version.name),
        "object": "adapter.version",
        "alias": publication.alias,
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


def deletion_answer(entry: AdapterEntry) -> dict[str, Any]:
    """An adapter that is gone."""
    return {"id": str(entry.name), "object": "adapter", "deleted": True}
