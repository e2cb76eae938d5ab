"""A process that does with a store what it is told, one JSON line at a time: `STORE SOURCES`.

It lives through many stores: `{"do": "open", "store": …}` begins with the next. Everything that it answers is JSON: a
result, or `{"error": code}`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters_store.collection import CollectionRules, collect
from adapters_store.digest import verify_directory
from adapters_store.errors import StoreError
from adapters_store.file_operations import FileOperations
from adapters_store.lease import Lease, resolve_leased
from adapters_store.names import AdapterName, AdapterRef, parse_adapter_name
from adapters_store.store import AdapterStore


class Mortal(FileOperations):
    """Kills its process at operation number `left`, counted from now."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name == "left" or not callable(found):
            return found
        if self.left is not None:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return found


class Worker:
    """One server's or operator's view of a store."""

    def __init__(self, sources: Path) -> None:
        self._sources = sources
        self._files = Mortal()
        self._store: AdapterStore | None = None
        self._lease: Lease | None = None

    @property
    def store(self) -> AdapterStore:
        assert self._store is not None
        return self._store

    @property
    def lease(self) -> Lease:
        assert self._lease is not None
        return self._lease

    def open(self, store: str) -> None:
        self._store = AdapterStore(Path(store), files=self._files)
        self._lease = Lease(self._store.leases, window=0.0)

    def publish(self, name: str, source: int, expect: str | None) -> list[str | None]:
        done = self.store.publish(_name(name), self._sources / str(source), expect=expect)
        return [done.version.digest, done.previous]

    def promote(self, name: str, digest: str, expect: str | None) -> list[str | None]:
        move = self.store.promote(AdapterRef(_name(name), digest=digest), expect=expect)
        return [move.digest, move.previous]

    def rollback(self, name: str) -> list[str | None]:
        move = self.store.rollback(_name(name))
        return [move.digest, move.previous]

    def retire(self, name: str, digest: str) -> None:
        self.store.retire(_name(name), digest)

    def restore(self, name: str, digest: str) -> None:
        self.store.restore(_name(name), digest)

    def delete(self, name: str) -> None:
        self.store.delete(_name(name))

    def collect(self, depth: int) -> list[list[str]]:
        collection = collect(self.store, CollectionRules(grace=0.0, depth=depth), dry=False)
        return [[str(one.name), one.digest] for one in collection.versions]

    def use(self, name: str, digest: str) -> str:
        """Lease a version and read its files, as a server does before a request."""
        version = resolve_leased(self.store, self.lease, AdapterRef(_name(name), digest=digest))
        verify_directory(version.directory, version.digest)
        return version.digest

    def read(self, digest: str) -> None:
        """Read the files of a version that is leased."""
        verify_directory(self.store.versions.path_of(digest), digest)

    def give_up(self) -> None:
        """End the lease, and go on with another, as a server does that was started again."""
        self.lease.end()
        self._lease = Lease(self.store.leases, window=0.0)

    def show(self) -> dict[str, Any]:
        """Aliases and states of the versions of every name."""
        return {
            str(listed.name): [
                dict(listed.aliases),
                {
                    v.digest: "collected" if v.collected else "retired" if v.retired else "live"
                    for v in self.store.get(listed.name).versions
                },
            ]
            for listed in self.store.list()
        }

    def die_after(self, operations: int) -> None:
        """Be killed at a file operation of what comes next."""
        self._files.left = operations


def _name(text: str) -> AdapterName:
    return parse_adapter_name(text)


if __name__ == "__main__":
    worker = Worker(Path(sys.argv[1]))
    for line in sys.stdin:
        asked = json.loads(line)
        do: Callable[..., Any] = getattr(worker, asked.pop("do"))
        try:
            answer: Any = do(**asked)
        except StoreError as error:
            answer = {"error": error.code}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
