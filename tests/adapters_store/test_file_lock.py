"""The lock of a lock file: one holder at a time, and nobody waits for ever."""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters_store.errors import StoreBusy
from adapters_store.file_lock import exclusive_lock
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import write_adapter


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A holder that does nothing, like a process that was suspended."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_that_is_not_freed_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    complaint = r"writing the ledger for more than 0\.1 s, so nothing was changed"
    with held(path), pytest.raises(StoreBusy, match=complaint), exclusive_lock(path, "the ledger", seconds=0.1):
        pytest.fail("two holders")
    with exclusive_lock(path, "the ledger", seconds=0):
        pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    started, done = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        with exclusive_lock(path, "the ledger", seconds=60):
            done.set()

    waiter = threading.Thread(target=wait)
    with held(path):
        waiter.start()
        assert started.wait(timeout=60)
        assert not done.wait(timeout=0.1)
    waiter.join(timeout=60)
    assert done.is_set()


def test_a_lock_is_freed_when_its_holder_fails(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), exclusive_lock(path, "the ledger", seconds=0):
        raise ZeroDivisionError
    with exclusive_lock(path, "the ledger", seconds=0):
        pass


def test_a_suspended_writer_blocks_nobody_for_ever(
    store: AdapterStore, support: AdapterName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.publish(support, write_adapter(tmp_path / "source")).version
    (lock,) = (store.root / "names").glob("*.lock")
    monkeypatch.setattr("adapters_store.name_directory.LOCK_SECONDS", 0.1)
    with held(lock):
        for write in (
            lambda: store.publish(support, write_adapter(tmp_path / "next", seed=1)),
            lambda: store.promote(AdapterRef(support)),
            lambda: store.rollback(support),
            lambda: store.delete(support),
        ):
            with pytest.raises(StoreBusy, match="adapter 'support'") as busy:
                write()
            assert (busy.value.status, busy.value.code) == (503, "store_busy")
        assert store.resolve(AdapterRef(support)) == first
    assert store.promote(AdapterRef(support)).digest == first.digest
