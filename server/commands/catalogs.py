"""The adapters that a command works on: those of a server, or those of a store on this machine."""

import builtins
import sys
from pathlib import Path
from typing import Any, Protocol

import msgspec

from adapters_store import AdapterStore
from adapters_store.hub_source import HubSource, publish_from_hub
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_references import tasks_that_name
from adapters_store.version_notes import VersionNotes
from server.api.protocol.adapter_answers import (
    deletion_answer,
    entry_answer,
    list_answer,
    move_answer,
    publication_answer,
    removed_alias_answer,
    state_answer,
)


class Catalog(Protocol):
    """Every method answers with what the HTTP API answers, as a dict, and raises SwitchyardError."""

    def push(
        self, name: AdapterName, source: Path | HubSource, alias: str, *, expect: str | None, notes: VersionNotes
    ) -> dict[str, Any]:
        """Publish a PEFT directory, or an adapter on a hub, and move `alias` to it.

        `previous` is the digest that the alias pointed to before, or None.
        """

    def list(self, limit: int | None, after: AdapterName | None) -> dict[str, Any]:
        """Adapters in order of their names; all of them where `limit` is None."""

    def show(self, name: AdapterName, *, history: bool) -> dict[str, Any]:
        """One adapter, with the moves of its aliases where `history` is set."""

    def promote(self, ref: AdapterRef, alias: str, *, expect: str | None) -> dict[str, Any]:
        """Point `alias` at what `ref` means."""

    def rollback(self, name: AdapterName, alias: str, *, expect: str | None) -> dict[str, Any]:
        """Point `alias` back to where it was."""

    def unalias(self, name: AdapterName, alias: str) -> dict[str, Any]:
        """Remove an alias."""

    def retire(self, name: AdapterName, digest: str) -> dict[str, Any]:
        """Let a version resolve no more."""

    def restore(self, name: AdapterName, digest: str) -> dict[str, Any]:
        """Let a retired version resolve again."""

    def annotate(self, ref: AdapterRef, notes: VersionNotes, remove_tags: builtins.list[str]) -> dict[str, Any]:
        """Renew the notes of a version."""

    def delete(self, name: AdapterName) -> dict[str, Any]:
        """Remove an adapter."""


class LocalCatalog:
    """A store's own directory. A server over the same directory sees every change with its next request."""

    def __init__(self, store: AdapterStore) -> None:
        self._store = store

    def push(
        self, name: AdapterName, source: Path | HubSource, alias: str, *, expect: str | None, notes: VersionNotes
    ) -> dict[str, Any]:
        if isinstance(source, HubSource):
            publication = publish_from_hub(self._store, name, source, alias=alias, expect=expect, notes=notes)
        else:
            noted = msgspec.structs.replace(notes, source="directory")
            publication = self._store.publish(name, source, alias=alias, expect=expect, notes=noted)
        return publication_answer(publication)

    def list(self, limit: int | None, after: AdapterName | None) -> dict[str, Any]:
        return list_answer(self._store.page(sys.maxsize if limit is None else limit, after))

    def show(self, name: AdapterName, *, history: bool) -> dict[str, Any]:
        return entry_answer(self._store.get(name, history=history))

    def promote(self, ref: AdapterRef, alias: str, *, expect: str | None) -> dict[str, Any]:
        return move_answer(self._store.promote(ref, alias, expect=expect))

    def rollback(self, name: AdapterName, alias: str, *, expect: str | None) -> dict[str, Any]:
        return move_answer(self._store.rollback(name, alias, expect=expect))

    def unalias(self, name: AdapterName, alias: str) -> dict[str, Any]:
        return removed_alias_answer(self._store.unalias(name, alias))

    def retire(self, name: AdapterName, digest: str) -> dict[str, Any]:
        return state_answer(self._store.retire(name, digest))

    def restore(self, name: AdapterName, digest: str) -> dict[str, Any]:
        return state_answer(self._store.restore(name, digest))

    def annotate(self, ref: AdapterRef, notes: VersionNotes, remove_tags: builtins.list[str]) -> dict[str, Any]:
        return state_answer(self._store.annotate(ref, notes, remove_tags=remove_tags))

    def delete(self, name: AdapterName) -> dict[str, Any]:
        entry = self._store.delete(name)
        return deletion_answer(entry, tasks_that_name(name, TaskDirectory.of_store(self._store.root)))
