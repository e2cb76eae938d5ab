"""Lookups by tier, loads by source and stage, evictions, preloads, and what the size of the cache ought to be."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.api.metrics.residency_metrics import ResidencyMetrics
from server.api.metrics.sizing_metrics import SizingMetrics
from server.engine.messages import (
    EngineState,
    EvictionReport,
    HostContents,
    LoadReport,
    LookupReport,
    PreloadReport,
    ResidentAdapter,
)
from tests.api.harness import Bench, serving
from tests.api.metrics.test_registry import scrape, state
from tests.api.scripted_engine import saying


def lookup(tier: Any, digest: str = "sha256:a") -> LookupReport:
    return LookupReport(name="a", digest=digest, tier=tier)


def load(digest: str = "sha256:a", size_bytes: int = 10, **fields: Any) -> LoadReport:
    return LoadReport(name="a", digest=digest, seconds=0.5, size_bytes=size_bytes, rank=8, **fields)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_host_memory_is_looked_at_after_a_miss_on_the_device(registry: CollectorRegistry) -> None:
    metrics = ResidencyMetrics(registry)
    for tier in ("device", "device", "host", "store"):
        metrics.looked_up(lookup(tier))
    found = {
        (what, tier): registry.get_sample_value(f"switchyard_adapter_cache_{what}_total", {"tier": tier})
        for what in ("lookups", "hits", "misses")
        for tier in ("device", "host")
    }
    assert found == {
        ("lookups", "device"): 4,
        ("hits", "device"): 2,
        ("misses", "device"): 2,
        ("lookups", "host"): 2,
        ("hits", "host"): 1,
        ("misses", "host"): 1,
    }
    assert registry.get_sample_value("vllm:lora_cache_hits_total") == 2


def test_a_load_is_timed_by_source_and_stage(registry: CollectorRegistry) -> None:
    metrics = ResidencyMetrics(registry)
    metrics.loaded(load(hash_seconds=0.1, read_seconds=0.3, copy_seconds=0.05))
    metrics.loaded(load(source="host", copy_seconds=0.02))
    metrics.loaded(load(failure="load_failed", hash_seconds=9.0))

    def total(stage: str) -> float | None:
        return registry.get_sample_value("switchyard_adapter_load_stage_seconds_sum", {"stage": stage})

    assert (total("hash"), total("read")) == (0.1, 0.3)
    assert total("copy") == pytest.approx(0.07)
    for source in ("host", "store"):
        assert registry.get_sample_value("switchyard_adapter_load_seconds_count", {"source": source}) == 1
    assert registry.get_sample_value("switchyard_adapter_loads_total", {"outcome": "load_failed"}) == 1


def test_evictions_and_preloads_are_counted(registry: CollectorRegistry) -> None:
    metrics = ResidencyMetrics(registry)
    metrics.evicted(EvictionReport(name="a", digest="sha256:a", reason="capacity", size_bytes=1, tier="host"))
    metrics.preloaded(PreloadReport(name="a", digest="sha256:a", outcome="useful"))
    evictions = "switchyard_adapter_evictions_total"
    assert registry.get_sample_value(evictions, {"tier": "host", "reason": "capacity"}) == 1
    assert registry.get_sample_value(evictions, {"tier": "device", "reason": "capacity"}) == 0
    assert registry.get_sample_value("switchyard_adapter_preloads_total", {"outcome": "useful"}) == 1
    assert registry.get_sample_value("switchyard_adapter_preloads_total", {"outcome": "wasted"}) == 0


def test_the_sizing_follows_lookups_and_loads(registry: CollectorRegistry) -> None:
    snapshot: EngineState = state(adapter_budget_bytes=20)
    now = 0.0
    metrics = SizingMetrics(registry, lambda: snapshot, lambda: now)
    for digest in ("a", "b", "c", "d") * 10:
        metrics.looked_up(lookup("store", digest))
        metrics.loaded(load(digest, 10))
    sizing = metrics.now()
    assert sizing is not None
    assert (sizing.working_set, sizing.working_set_bytes) == (4, 40)
    # Four of 10 bytes in turn: 20 bytes never hit, 40 always do.
    assert sizing.hit_ratios[1] == 0
    assert sizing.hit_ratios[4] == pytest.approx(0.9)
    assert registry.get_sample_value("switchyard_adapter_ghost_hit_ratio", {"budget": "0.5x"}) == 0
    now = 700.0
    assert registry.get_sample_value("switchyard_adapter_working_set_adapters") == 0


def test_without_an_engine_no_size_is_told(registry: CollectorRegistry) -> None:
    metrics = SizingMetrics(registry, lambda: None)
    metrics.looked_up(lookup("device"))
    assert metrics.now() is None
    assert registry.get_sample_value("switchyard_adapter_working_set_bytes") is None
    assert registry.get_sample_value("switchyard_adapter_ghost_hit_ratio", {"budget": "1x"}) is None


@pytest.mark.anyio
async def test_what_host_memory_holds_is_drawn(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    held = [ResidentAdapter(name="a", digest="sha256:a", rank=8, size_bytes=30, pinned=False)]
    async with serving(bench, engine) as client:
        engine.report(state(host=HostContents(3, held), host_bytes=30, host_budget_bytes=100))
        engine.report(lookup("host"))
        read = await scrape(client)
    assert read("switchyard_adapters_in_host") == 3
    assert (read("switchyard_adapter_host_bytes"), read("switchyard_adapter_host_budget_bytes")) == (30, 100)
    assert read("vllm:lora_adapter_loaded", adapter_name="a", level="host", pinned="false", rank="8") == 1
    assert read("switchyard_adapter_cache_hits_total", tier="host") == 1
    assert read("switchyard_adapter_working_set_adapters") == 1
