"""Leases: who holds what, for how long, and what happens to those who die."""

import errno
import threading
import time
from pathlib import Path

import pytest

from adapters_store.errors import StoreBusy, UnknownAdapter
from adapters_store.lease import Lease, resolve_leased
from adapters_store.lease_directory import LeaseDirectory, LeaseId, StoredLease
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import write_adapter

ONE, TWO = (f"sha256:{number:064x}" for number in (1, 2))


def test_leases_of_several_holders_add_up(store: AdapterStore) -> None:
    one, two = Lease(store.leases, window=60.0), Lease(store.leases, window=60.0)
    assert one.hold(ONE)
    assert two.hold(TWO)
    assert store.leases.live_digests() == {ONE, TWO}
    one.end()
    one.end()
    assert store.leases.live_digests() == {TWO}


class Clock:
    """Both clocks of a machine, which stand still until they are moved."""

    def __init__(self) -> None:
        self.steady, self.shared = 1000.0, 1_800_000_000.0

    def monotonic(self) -> float:
        return self.steady

    def time(self) -> float:
        return self.shared

    def go(self, seconds: float) -> None:
        self.steady += seconds
        self.shared += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("adapters_store.lease.time", clock)
    monkeypatch.setattr("adapters_store.lease_directory.time", clock)
    return clock


def test_a_lease_that_nobody_renews_lapses(store: AdapterStore, clock: Clock) -> None:
    Lease(store.leases, window=3600.0, seconds=60.0).hold(ONE)
    clock.go(59.0)
    assert store.leases.live_digests() == {ONE}
    clock.go(2.0)
    assert store.leases.live_digests() == set()
    assert store.leases.sweep(3600.0) == []
    assert len(store.leases.sweep(0.0)) == 1
    assert list(store.leases.read_all()) == []


def test_a_renewal_prolongs_and_drops_what_was_not_used(store: AdapterStore, clock: Clock) -> None:
    lease = Lease(store.leases, window=30.0, seconds=60.0)
    lease.hold(ONE)
    clock.go(31.0)
    lease.hold(TWO)
    lease.renew()
    assert store.leases.live_digests() == {TWO}
    clock.go(31.0)
    lease.renew(in_use=[TWO])
    clock.go(50.0)
    assert store.leases.live_digests() == {TWO}
    assert lease.hold(ONE)


@pytest.mark.parametrize("stands_still", [False, True])
def test_a_holder_that_slept_over_the_end_of_its_lease_takes_it_again(
    store: AdapterStore, clock: Clock, stands_still: bool
) -> None:
    """While a machine sleeps, one of its clocks may stand still; the others see only the other one."""
    lease = Lease(store.leases, window=3600.0, seconds=60.0)
    lease.hold(ONE)
    assert not lease.hold(ONE)
    clock.go(61.0)
    if stands_still:
        clock.steady -= 61.0
    assert lease.hold(ONE)
    assert store.leases.live_digests() == {ONE}


def test_a_lease_that_ended_is_not_written_again(store: AdapterStore) -> None:
    lease = Lease(store.leases, window=60.0)
    lease.hold(ONE)
    lease.end()
    lease.renew(in_use=[ONE])
    assert lease.hold(TWO)
    assert list(store.leases.read_all()) == []


class Slow(LeaseDirectory):
    """Leases on a disk that lets one write begin only when it is told to, and that may fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.began, self.may_go, self.writes = threading.Event(), threading.Event(), 0
        self.failure: Exception | None = None

    def write(self, lease: LeaseId, content: StoredLease, seconds: float = 0.0) -> None:
        self.writes += 1
        self.began.set()
        assert self.may_go.wait(10.0)
        if self.failure is not None:
            raise self.failure
        super().write(lease, content, seconds)


def hold_at_once(lease: Lease, directory: Slow, holders: int) -> list[bool | None]:
    """What so many threads are told that want to hold digests while the first of them writes; None is an error."""
    told: list[bool | None] = []

    def hold(digest: str) -> None:
        try:
            told.append(lease.hold(digest))
        except (StoreBusy, OSError):
            told.append(None)

    first, *rest = (threading.Thread(target=hold, args=(f"sha256:{number:064x}",)) for number in range(holders))
    first.start()
    assert directory.began.wait(10.0)
    for thread in rest:
        thread.start()
    while len(lease.used()) < holders:
        time.sleep(0.001)
    time.sleep(0.02)
    directory.may_go.set()
    for thread in (first, *rest):
        thread.join()
    return told


def test_those_who_wait_are_protected_by_one_write(store: AdapterStore) -> None:
    slow = Slow(store.root / "leases")
    assert hold_at_once(Lease(slow, window=60.0), slow, 8) == [True] * 8
    assert slow.writes == 2
    assert len(store.leases.live_digests()) == 8


def test_those_who_wait_are_told_at_once_of_a_failure(store: AdapterStore) -> None:
    slow = Slow(store.root / "leases")
    slow.failure = OSError(errno.EROFS, "Read-only file system")
    assert hold_at_once(Lease(slow, window=60.0), slow, 8) == [None] * 8
    assert slow.writes == 1


def test_a_request_waits_no_longer_than_a_second_for_the_lock(
    store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters_store.lease._HOLD_SECONDS", 0.05)
    lease, began = Lease(store.leases, window=60.0), time.monotonic()
    with AdapterStore(store.root).leases.lock(), pytest.raises(StoreBusy, match=r"0\.05 s"):
        lease.hold(ONE)
    assert time.monotonic() - began < 5.0


def test_what_is_held_costs_no_write(store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(store.leases, window=60.0)
    lease.hold(ONE)
    monkeypatch.setattr(store.leases, "write", lambda *_: pytest.fail("the lease was written again"))
    assert not lease.hold(ONE)


def test_a_version_that_goes_before_it_is_leased_is_unknown(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    store.publish(support, write_adapter(tmp_path / "source"))

    class Late(Lease):
        def hold(self, digest: str) -> bool:
            AdapterStore(store.root).delete(support)
            return super().hold(digest)

    with pytest.raises(UnknownAdapter):
        resolve_leased(store, Late(store.leases, window=60.0), AdapterRef(support))


def test_an_alias_that_moves_meanwhile_is_followed(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    for seed in range(2):
        store.publish(support, write_adapter(tmp_path / f"source-{seed}", seed=seed))
    moves = 0

    class Late(Lease):
        def hold(self, digest: str) -> bool:
            nonlocal moves
            if moves == 0:
                moves += 1
                AdapterStore(store.root).rollback(support, "latest")
            return super().hold(digest)

    version = resolve_leased(store, Late(store.leases, window=60.0), AdapterRef(support))
    assert version == store.resolve(AdapterRef(support))
    assert version.digest in store.leases.live_digests()


def test_a_lease_says_whose_it_is(store: AdapterStore) -> None:
    Lease(store.leases, window=60.0).hold(ONE)
    ((_, lease),) = store.leases.read_all()
    assert isinstance(lease, StoredLease)
    host, _, process = lease.holder.rpartition(":")
    assert host
    assert process.isdecimal()
