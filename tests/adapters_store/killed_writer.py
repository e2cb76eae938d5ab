"""A process that changes a store without end, and says after each change that it is done: `STORE SOURCES FIRST`."""

import sys
from pathlib import Path

from adapters_store.collection import CollectionRules, collect
from adapters_store.errors import StoreError
from adapters_store.lease import Lease
from adapters_store.names import AdapterRef, parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.version_notes import VersionNotes

NAMES = tuple(map(parse_adapter_name, ("one", "acme/two")))
SOURCES = 7


def change(store: AdapterStore, sources: Path, number: int) -> None:
    """The change of this number: always the same. What the store refuses changes nothing."""
    name = NAMES[number // 3 % len(NAMES)]
    try:
        match number % 9:
            case 0 | 2 | 5:
                store.publish(name, sources / str(number % SOURCES))
            case 1:
                store.promote(AdapterRef(name))
            case 3:
                store.rollback(name, "latest")
            case 4:
                store.retire(name, next(v.digest for v in store.get(name).versions if v.retired is None))
            case 6:
                store.annotate(AdapterRef(name), VersionNotes(tags=(f"tag-{number % 20}",)), remove_tags=["tag-3"])
            case 7:
                Lease(store.leases, window=0, seconds=0).hold(store.resolve(AdapterRef(name)).digest)
            case 8:
                collect(store, CollectionRules(grace=0, depth=number % 3), dry=False)
    except StoreError:
        pass


if __name__ == "__main__":
    store, sources = AdapterStore(Path(sys.argv[1])), Path(sys.argv[2])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for number in range(int(sys.argv[3]), sys.maxsize):
        change(store, sources, number)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
