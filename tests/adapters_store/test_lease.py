"""Leases: who holds what, for how long, and what happens to those who die."""

import time
from pathlib import Path

import pytest

from adapters_store.errors import UnknownAdapter
from adapters_store.lease import Lease, resolve_leased
from adapters_store.lease_directory import StoredLease
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


def test_a_lease_that_nobody_renews_lapses(store: AdapterStore) -> None:
    Lease(store.leases, window=60.0, seconds=0.2).hold(ONE)
    assert store.leases.live_digests() == {ONE}
    time.sleep(0.25)
    assert store.leases.live_digests() == set()
    assert store.leases.sweep(3600.0) == []
    assert len(store.leases.sweep(0.0)) == 1
    assert list(store.leases.read_all()) == []


def test_a_renewal_prolongs_and_drops_what_was_not_used(store: AdapterStore) -> None:
    lease = Lease(store.leases, window=0.2, seconds=0.4)
    lease.hold(ONE)
    time.sleep(0.25)
    lease.hold(TWO)
    lease.renew()
    assert store.leases.live_digests() == {TWO}
    time.sleep(0.25)
    lease.renew(in_use=[TWO])
    time.sleep(0.25)
    assert store.leases.live_digests() == {TWO}
    assert lease.hold(ONE)


def test_a_holder_that_slept_over_the_end_of_its_lease_takes_it_again(store: AdapterStore) -> None:
    lease = Lease(store.leases, window=60.0, seconds=0.2)
    lease.hold(ONE)
    time.sleep(0.25)
    assert lease.hold(ONE)
    assert store.leases.live_digests() == {ONE}


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
