"""The server's lease: what requests use is not collected, and a lease that fails stops no request."""

import asyncio
import errno

import pytest

from adapters_store import AdapterStore
from adapters_store.collection import CollectionRules, collect
from adapters_store.errors import StoreBusy
from adapters_store.lease_directory import LeaseDirectory
from adapters_store.names import AdapterRef, parse_adapter_name
from server.api.publishing.store_lease import StoreLease
from tests.api.harness import Bench, serving, until
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

NOW = CollectionRules(grace=0.0, depth=0)


def leased(store: AdapterStore) -> set[str]:
    return store.leases.live_digests()


async def test_what_a_request_resolved_is_leased_before_it_is_used(bench: Bench) -> None:
    old, new = (bench.publish("support", seed=seed) for seed in range(2))
    async with serving(bench, bench.engine(saying([]))) as client:
        answer = await client.post("/v1/completions", json={"model": f"support@{old}", "prompt": "x"})
        assert answer.status_code == 200
        assert leased(bench.store) == {old}
        assert collect(bench.store, NOW, dry=False).removed == ()
    await until(lambda: leased(bench.store) == set())
    assert collect(bench.store, NOW, dry=False).removed == (old,)
    assert bench.store.resolve(AdapterRef(parse_adapter_name("support"))).digest == new


async def test_the_lease_is_renewed_and_holds_what_is_on_the_device(bench: Bench) -> None:
    resident = bench.publish("support")
    lease = StoreLease(bench.store, lambda: [resident], renewal=0.02)
    keeping = asyncio.create_task(lease.keep())
    await until(lambda: leased(bench.store) == {resident})
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await until(lambda: leased(bench.store) == set())


@pytest.mark.parametrize("failure", [StoreBusy("busy"), OSError(errno.EROFS, "Read-only file system")])
async def test_a_lease_that_cannot_be_written_stops_no_request_and_is_not_tried_at_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    digest = bench.publish("support")
    tried = 0

    def refuse(*_: object) -> None:
        nonlocal tried
        tried += 1
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(LeaseDirectory, "write", refuse)
        lease = StoreLease(bench.store, list, renewal=0.02)
        for _ in range(3):
            assert lease.resolve(AdapterRef(parse_adapter_name("support"))).digest == digest
        assert tried == 1
    keeping = asyncio.create_task(lease.keep())
    await until(lambda: leased(bench.store) == {digest})
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
