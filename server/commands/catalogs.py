"""The adapters that a command works on: those of a server, or those of a store on this machine."""

from pathlib import Path
from typing import Any, Protocol

from adapters_store import AdapterStore, UnknownAdapter
from adapters_store.names import AdapterName, AdapterRef
from server.api.protocol.adapter_answers import (
    deletion_answer,
    entry_answer,
    list_answer,
    move_answer,
    publication_answer,
)


class Catalog(Protocol):
    """Every method answers with what the HTTP API answers, as a dict, and raises SwitchyardError."""

    def push(self, name: AdapterName, directory: Path, alias: str) -> dict[str, Any]:
        """Publish a PEFT directory and move `alias` to it; `previous` is the digest it pointed to before, or None."""

    def list(self) -> dict[str, Any]:
        """Every adapter."""

    def show(self, name: AdapterName) -> dict[str, Any]:
        """One adapter."""

    def promote(self, ref: AdapterRef, alias: str) -> dict[str, Any]:
        """Point `alias` at what `ref` means."""

    def rollback(self, name: AdapterName, alias: str) -> dict[str, Any]:
        """Point `alias` back to where it was."""

    def delete(self, name: AdapterName) -> dict[str, Any]:
        """Remove an adapter."""


class LocalCatalog:
    """A store's own directory. A server over the same directory sees every change with its next request."""

    def __init__(self, store: AdapterStore) -> None:
        self._store = store

    def push(self, name: AdapterName, directory: Path, alias: str) -> dict[str, Any]:
        previous = self._alias_target(name, alias)
        return {**publication_answer(self._store.publish(name, directory, alias=alias)), "previous": previous}

    def list(self) -> dict[str, Any]:
        return list_answer(self._store.list())

    def show(self, name: AdapterName) -> dict[str, Any]:
        return entry_answer(self._store.get(name))

    def promote(self, ref: AdapterRef, alias: str) -> dict[str, Any]:
        return move_answer(self._store.promote(ref, alias))

    def rollback(self, name: AdapterName, alias: str) -> dict[str, Any]:
        return move_answer(self._store.rollback(name, alias))

    def delete(self, name: AdapterName) -> dict[str, Any]:
        return deletion_answer(self._store.delete(name))

    def _alias_target(self, name: AdapterName, alias: str) -> str | None:
        try:
            return self._store.get(name).aliases.get(alias)
        except UnknownAdapter:
            return None
