"""The bounds that a soak holds a server against can fail: each kind of leak is told."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.api.metrics.adapter_labels import AdapterLabels
from server.api.metrics.state_metrics import StateCollector
from server.api.metrics.vllm_metrics import VllmCollector, VllmView
from server.engine.messages import DevicePages, EngineState, ResidentAdapter
from tests.soak.account import Account, Reading

PAGE = 100
SETTINGS: dict[str, object] = {"kv_cache_bytes": 1050, "adapter_budget_bytes": 750, "host_cache_bytes": 5000}
SIZES = {4: 200, 8: 300}


def reading(**fields: Any) -> Reading:
    """Of a server with 10 blocks and 8 pages for adapters, empty unless said otherwise."""
    known: dict[str, Any] = {
        "running": 0,
        "waiting": 0,
        "kv_blocks_used": 0,
        "kv_blocks_total": 10,
        "prefix_hit_tokens": 0,
        "prefix_lookup_tokens": 0,
        "preemptions": 0,
        "rows_taken_back": 0,
        "adapter_bytes": 0,
        "adapter_budget_bytes": 800,
        "host_budget_bytes": 5000,
        "resident": [],
        "waiting_adapters": [],
        "pages": DevicePages(total=18),
    }
    state = EngineState(**(known | fields))
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: state))
    registry.register(VllmCollector(AdapterLabels(1), lambda: VllmView("base", 8, state)))
    return Reading.of(generate_latest(registry).decode())


def resident(*ranks: int) -> list[ResidentAdapter]:
    return [
        ResidentAdapter(name=f"a{number}", digest=f"{number}", rank=rank, size_bytes=SIZES[rank], pinned=False)
        for number, rank in enumerate(ranks)
    ]


FULL: dict[str, Any] = {
    "adapter_bytes": 700,
    "resident": resident(4, 4, 8),
    "pages": DevicePages(total=18, prefix=4, adapters=7),
}


@pytest.fixture
def account() -> Account:
    return Account.opened(reading(), SETTINGS, SIZES)


def test_the_settings_say_what_an_empty_server_has(account: Account) -> None:
    assert (account.kv_blocks, account.adapter_budget_bytes, account.pages) == (10, 800, 18)
    assert account.page_bytes == PAGE
    with pytest.raises(AssertionError, match="blocks"):
        Account.opened(reading(), SETTINGS | {"kv_cache_bytes": 2000}, SIZES)
    with pytest.raises(AssertionError, match="bytes for"):
        Account.opened(reading(), SETTINGS | {"adapter_budget_bytes": 650}, SIZES)


def test_an_engine_that_is_not_ready_has_no_gauges() -> None:
    assert not Reading.of("# nothing\n").has_engine
    assert reading().has_engine


def test_a_server_in_order_has_no_faults(account: Account) -> None:
    assert not [*account.faults_when_idle(reading())]
    assert not [*account.faults_when_idle(reading(**FULL))]
    busy = FULL | {"running": 2, "kv_blocks_used": 6, "pages": DevicePages(total=18, kv=6, prefix=4, adapters=7)}
    assert not [*account.faults(reading(**busy))]


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        ({"kv_blocks_total": 9}, "switchyard_kv_blocks is 9 and was 10"),
        ({"adapter_budget_bytes": 700}, "switchyard_adapter_budget_bytes is 700"),
        ({"host_bytes": 5001}, "switchyard_adapter_host_bytes is 5001"),
        ({"pages": DevicePages(total=17)}, "not 18 in all"),
        ({"pages": DevicePages(total=18, kv=11, adapters=8)}, "not 18 in all"),
        ({"pages": DevicePages(total=18, kv=6, prefix=5)}, "more than 10 pages"),
    ],
)
def test_what_is_lost_is_told_at_any_moment(account: Account, leak: dict[str, Any], told: str) -> None:
    assert any(told in fault for fault in account.faults(reading(**leak)))


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        ({"kv_blocks_used": 1}, "kv_blocks_used is 1"),
        ({"pages": DevicePages(total=18, kv=1, prefix=3, adapters=7)}, "free, kept or an adapter's"),
        ({"adapter_bytes": 800, "pages": DevicePages(total=18, adapters=8)}, "adapters hold 800 bytes, those resident"),
        ({"resident": resident(4, 8)}, "those resident 500"),
        ({"pages": DevicePages(total=18, adapters=6)}, "by pages"),
    ],
)
def test_what_an_idle_server_holds_for_nobody_is_told(account: Account, leak: dict[str, Any], told: str) -> None:
    assert any(told in fault for fault in account.faults_when_idle(reading(**(FULL | leak))))


def test_sizes_are_those_of_the_ranks(account: Account) -> None:
    other = replace(account, sizes={4: 200, 8: 400})
    assert any("those resident 800" in fault for fault in other.faults_when_idle(reading(**FULL)))
