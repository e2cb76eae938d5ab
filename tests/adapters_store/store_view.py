"""What a store says of its names, less the times: two stores in the same state give equal views."""

from typing import Any

from adapters_store.digest import verify_directory
from adapters_store.store import AdapterStore

View = dict[str, Any]


def view(store: AdapterStore) -> View:
    """Per name its aliases, the states and tags of its versions, and where its aliases have been.

    Every version that resolves must be whole.
    """
    seen: View = {}
    for listed in store.list():
        entry = store.get(listed.name, history=True)
        assert entry.history is not None
        for version in entry.versions:
            if version.retired is None and version.collected is None:
                verify_directory(version.directory, version.digest)
        seen[str(entry.name)] = (
            dict(entry.aliases),
            [(v.digest, v.retired is None, v.collected is None, v.notes.tags) for v in entry.versions],
            {alias: [(move.digest, move.reason) for move in moves] for alias, moves in entry.history.items()},
        )
    return seen
