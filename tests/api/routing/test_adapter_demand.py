"""Adapters count as in use while rows hold them, and for a minute after a request for them."""

from typing import Any

import pytest

from adapters_store import parse_adapter_ref
from server.api.routing.adapter_demand import IN_USE_SECONDS, AdapterDemand
from server.api.routing.model_names import Target
from server.engine.messages import EngineState, ResidentAdapter
from tests.api.harness import Bench

BUDGET = 1000


class Device:
    """The engine's last report, and a clock."""

    def __init__(self) -> None:
        self.state: EngineState | None = None
        self.now = 0.0
        self.demand = AdapterDemand(lambda: self.state, lambda: self.now)

    def holds(self, *resident: ResidentAdapter, waiting: tuple[str, ...] = ()) -> None:
        fields: dict[str, Any] = dict.fromkeys(
            (
                "running",
                "waiting",
                "kv_blocks_used",
                "kv_blocks_total",
                "prefix_hit_tokens",
                "prefix_lookup_tokens",
                "preemptions",
                "rows_taken_back",
                "adapter_bytes",
            ),
            0,
        )
        self.state = EngineState(
            **fields, adapter_budget_bytes=BUDGET, resident=list(resident), waiting_adapters=list(waiting)
        )


@pytest.fixture
def device() -> Device:
    return Device()


def target(bench: Bench, name: str, seed: int = 0) -> Target:
    bench.publish(name, seed)
    return Target(bench.store.resolve(parse_adapter_ref(name)))


def resident(wanted: Target, size_bytes: int, *, pinned: bool = False) -> ResidentAdapter:
    assert wanted.digest is not None
    return ResidentAdapter(name=wanted.name, digest=wanted.digest, rank=4, size_bytes=size_bytes, pinned=pinned)


def test_without_reports_and_requests_nothing_is_in_use(device: Device) -> None:
    demand = device.demand.now(BUDGET)
    assert (demand.budget_bytes, dict(demand.sizes), demand.waiting) == (BUDGET, {}, frozenset())


def test_what_was_asked_for_counts_for_a_while(device: Device, bench: Bench) -> None:
    support = target(bench, "support")
    device.demand.asked_for(support)
    assert support.version is not None
    most = support.version.metadata.parameters * 4
    device.now = IN_USE_SECONDS
    assert dict(device.demand.now(BUDGET).sizes) == {support.digest: most}
    device.now += 0.1
    assert dict(device.demand.now(BUDGET).sizes) == {}


def test_the_engine_knows_the_true_size(device: Device, bench: Bench) -> None:
    support, tone = target(bench, "support"), target(bench, "tone", 1)
    device.demand.asked_for(support)
    device.holds(resident(support, 320), resident(tone, 77))
    assert dict(device.demand.now(BUDGET).sizes) == {support.digest: 320}
    assert device.demand.size_of(tone) == 77
    device.holds()
    assert device.demand.size_of(tone) == 77, "a size is remembered after the adapter has left the device"


def test_what_rows_hold_counts_however_long_ago_it_was_asked_for(device: Device, bench: Bench) -> None:
    support, tone = target(bench, "support"), target(bench, "tone", 1)
    device.holds(resident(support, 320, pinned=True), resident(tone, 77))
    assert dict(device.demand.now(BUDGET).sizes) == {support.digest: 320}


def test_a_row_that_a_copy_takes_is_no_use(device: Device, bench: Bench) -> None:
    support, tone = target(bench, "support"), target(bench, "tone", 1)
    device.holds(resident(support, 320, pinned=True), resident(tone, 77, pinned=True))
    assert support.digest is not None
    device.demand.mirrored(support.digest)
    assert dict(device.demand.now(BUDGET).sizes) == {tone.digest: 77}
    device.demand.asked_for(support)
    assert dict(device.demand.now(BUDGET).sizes) == {support.digest: 320, tone.digest: 77}
    device.now = IN_USE_SECONDS + 1
    assert dict(device.demand.now(BUDGET).sizes) == {support.digest: 320, tone.digest: 77}, "for a while only"


def test_only_what_is_not_on_the_device_waits_for_space(device: Device, bench: Bench) -> None:
    support = target(bench, "support")
    device.holds(resident(support, 320), waiting=("support", "tone"))
    assert device.demand.now(BUDGET).waiting == {"tone"}


def test_the_base_takes_no_space(device: Device) -> None:
    device.demand.asked_for(Target(None))
    assert device.demand.size_of(Target(None)) == 0
    assert dict(device.demand.now(BUDGET).sizes) == {}
