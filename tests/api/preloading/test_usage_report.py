"""The report of what is used: who is listed, in what order, and what is said of the budget."""

from typing import Any

import pytest

from adapters_store import AdapterEntry, clock
from server.adapters.traffic.traffic_model import TrafficModel, Usage
from server.api.metrics.sizing_metrics import Sizing
from server.api.preloading.usage_report import DAY, UsageReport, advice, by_name
from server.engine.messages import HostContents, ResidentAdapter
from tests.api.harness import Bench
from tests.api.metrics.test_registry import state

PUBLISHED = ("a", "b", "c")


@pytest.fixture
def entries(bench: Bench) -> list[AdapterEntry]:
    for seed, name in enumerate(PUBLISHED):
        bench.publish(name, seed=seed)
    return bench.store.list()


def report(entries: list[AdapterEntry], usages: list[Usage], days: float = 100.0, **fields: Any) -> UsageReport:
    """As it is so many days after the adapters were published; the ages of usages count from then."""
    now = clock.seconds_of(entries[0].created) + days * DAY
    model = TrafficModel()
    for usage in sorted(usages, key=lambda usage: usage.last_asked):
        for _ in range(usage.requests):
            model.observe(usage.key, now + usage.last_asked * DAY)
    known: dict[str, Any] = {"state": None, "sizing": None, "pins": []}
    return UsageReport(now, model.started, by_name(model.usage(now)), **(known | fields))


def asked(key: str, days_ago: float, requests: int = 1) -> Usage:
    return Usage(key, requests, -days_ago, 0.0)


def listed(answer: dict[str, Any]) -> list[str]:
    return [adapter["id"] for adapter in answer["data"]]


def test_what_was_not_asked_for_the_longest_comes_first(entries: list[AdapterEntry]) -> None:
    found = report(entries, [asked("a", 3), asked("c", 40)])
    assert listed(found.answer(entries, unused_days=None, limit=10)) == ["b", "c", "a"]
    assert listed(found.answer(entries, unused_days=30, limit=10)) == ["b", "c"]
    assert listed(found.answer(entries, unused_days=1, limit=10)) == ["b", "c", "a"]
    answer = found.answer(entries, unused_days=None, limit=2)
    assert (listed(answer), answer["has_more"]) == (["b", "c"], True)


def test_a_new_adapter_is_no_candidate(entries: list[AdapterEntry]) -> None:
    found = report(entries, [], days=5)
    assert listed(found.answer(entries, unused_days=30, limit=10)) == []
    assert listed(found.answer(entries, unused_days=4, limit=10)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("usages", "days", "too_young"),
    [([], None, False), ([], 30, True), ([asked("a", 29)], 30, True), ([asked("a", 31)], 30, False)],
)
def test_a_history_that_is_younger_than_the_days_asked_for_is_told(
    entries: list[AdapterEntry], usages: list[Usage], days: float | None, too_young: bool
) -> None:
    assert report(entries, usages).answer(entries, unused_days=days, limit=10)["too_young"] is too_young


def test_an_adapters_aliases_count_together(entries: list[AdapterEntry]) -> None:
    found = report(entries, [asked("a", 3, 2), asked("a@prod", 1, 5), asked("a@sha256:0", 2)])
    (adapter,) = (one for one in found.answer(entries, unused_days=None, limit=10)["data"] if one["id"] == "a")
    assert adapter["requests"] == 8
    assert clock.seconds_of(adapter["last_asked"]) == pytest.approx(found.now - DAY, abs=0.01)
    assert adapter["rate"] > 0


def test_tiers_pins_and_sizes_are_told(entries: list[AdapterEntry]) -> None:
    def held(name: str) -> ResidentAdapter:
        return ResidentAdapter(name=name, digest="sha256:0", rank=8, size_bytes=1, pinned=False)

    snapshot = state(resident=[held("a")], host=HostContents(2, [held("a"), held("b")]))
    answer = report(entries, [], state=snapshot, pins=["b@prod"]).answer(entries, unused_days=None, limit=10)
    told = {one["id"]: (one["tier"], one["pinned"], one["last_asked"]) for one in answer["data"]}
    assert told == {"a": ("device", False, None), "b": ("host", True, None), "c": ("store", False, None)}
    assert all(one["bytes"] > 0 for one in answer["data"])
    assert answer["history_since"] is None
    assert answer["cache"] is None


def sizing(requests: float, *ratios: float) -> Sizing:
    return Sizing(1000, requests, dict(zip((0.5, 1, 2, 4, 8, 16), ratios, strict=True)), 3, 300)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (sizing(20, 0, 0, 0, 0, 0, 0), "too few lookups"),
        (sizing(500, 0.3, 0.5, 0.7, 0.9, 0.91, 0.91), "4x (4,000 bytes) would raise the hit ratio from 0.50 to 0.90"),
        (sizing(500, 0.89, 0.9, 0.9, 0.9, 0.9, 0.9), "half the budget would hit as often: 0.89"),
        (sizing(500, 0.5, 0.9, 0.91, 0.91, 0.91, 0.91), "a larger budget would hardly hit more often than 0.90"),
    ],
)
def test_the_advice_is_the_smallest_budget_that_brings_nearly_all(found: Sizing, said: str) -> None:
    assert said in advice(found)
