"""One budget on a real engine: adapters fill it while no prompt needs it, and give it back to long ones."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.config import Settings
from server.engine.build import page_pool
from server.engine.in_process import InProcessEngine
from server.engine.messages import EngineState, EvictionReport, LoadReport, Report
from server.errors import ConfigurationError
from tests.lora_adapters import write_lora
from tests.running_engine import answer, answers, running, submit, version
from tests.tiny_models import write_tiny_model

PAGE = 12_288
"""Bytes of 16 tokens of the tiny model: 3 layers, 2 key-value heads of 16 fp32 numbers."""


def most_resident(reports: list[Report]) -> int:
    """The most adapters that were on the device at a time, by every load and eviction and not by sampled states."""
    resident: set[str] = set()
    most = 0
    for report in reports:
        if isinstance(report, LoadReport) and report.failure is None:
            resident.add(report.digest)
        elif isinstance(report, EvictionReport) and report.tier == "device":
            resident.discard(report.digest)
        most = max(most, len(resident))
    return most


def test_long_prompts_push_idle_adapters_out_and_never_fail_and_the_adapters_come_back(tmp_path: Path) -> None:
    base = write_tiny_model("llama", tmp_path / "base")
    adapters = [
        version(write_lora(base, tmp_path / f"a{seed}", seed=seed, r=4, targets=("q_proj", "v_proj", "o_proj")))
        for seed in range(5)
    ]
    short = [submit(range(5, 25), adapter) for adapter in adapters]
    long = [submit(range(first, first + 130)) for first in (10, 20, 30)]

    async def rounds(engine: InProcessEngine) -> list[list[list[int]]]:
        given = []
        for requests in (short, long, short, long[::-1], short):
            got = await answers(engine, [submit(one.prompt, one.adapter, max_tokens=8) for one in requests])
            assert all(one.failed is None and one.started and one.started.fallback is None for one in got)
            given.append([one.tokens for one in got])
        return given

    async def serve(reports: list[Report], **settings: Any) -> tuple[list[list[list[int]]], int]:
        values: dict[str, Any] = {
            "base": str(base),
            "cache_dir": tmp_path / "cache",
            "threads": 1,
            "numerics": "exact",
        } | settings
        async with running(Settings(**values), reports) as engine:
            given = await rounds(engine)
            per_adapter = engine.built.loop.residency.resident()[0].size_bytes // PAGE
            return given, per_adapter

    ample, per_adapter = asyncio.run(serve([], kv_cache_bytes=400 * PAGE, adapter_budget_bytes=400 * PAGE))
    reports: list[Report] = []
    tight, _ = asyncio.run(
        serve(
            reports,
            kv_cache_bytes=16 * PAGE,
            adapter_budget_bytes=per_adapter * PAGE,
            device_memory_bytes=(16 + 5 * per_adapter) * PAGE,
        )
    )
    assert tight == ample
    states = [report for report in reports if isinstance(report, EngineState)]
    assert most_resident(reports) > 1, "more adapters than their floor holds"
    assert any(isinstance(report, EvictionReport) for report in reports)
    for state in states:
        assert state.pages.free >= 0
        assert state.pages.total == 16 + 5 * per_adapter
        assert state.adapter_bytes == state.pages.adapters * PAGE <= state.adapter_budget_bytes
        assert state.kv_blocks_used == state.pages.kv <= state.kv_blocks_total
        assert state.kv_blocks_total >= 16
        assert state.adapter_budget_bytes >= per_adapter * PAGE


def test_an_adapter_that_its_floor_cannot_hold_is_too_large_whatever_is_shared(tmp_path: Path) -> None:
    base = write_tiny_model("llama", tmp_path / "base")
    adapter = version(write_lora(base, tmp_path / "large", seed=1, r=16))

    async def serve() -> None:
        settings = Settings(
            base=str(base),
            cache_dir=tmp_path / "cache",
            threads=1,
            kv_cache_bytes=16 * PAGE,
            adapter_budget_bytes=PAGE,
            device_memory_bytes=400 * PAGE,
        )
        async with running(settings) as engine:
            assert engine.built.info.adapter_budget_bytes == 384 * PAGE
            assert engine.built.info.kv_blocks == 399
            assert engine.built.info.max_model_len == 16 * 16
            got = await answer(engine, submit(range(9), adapter))
            assert got.started is not None
            assert got.started.fallback == "too_large"

    asyncio.run(serve())


def test_the_settings_share_the_pages_out() -> None:
    def pages(**settings: Any) -> tuple[int, int, int]:
        pool = page_pool(Settings(**settings), 1000)
        return pool.kv_floor, pool.kv_limit, pool.adapter_limit

    assert pages(kv_cache_bytes=5999, adapter_budget_bytes=3001) == (5, 5, 4)
    assert pages(kv_cache_bytes=5000, adapter_budget_bytes=3000, device_memory_bytes=8000) == (5, 5, 3)
    assert pages(kv_cache_bytes=5000, adapter_budget_bytes=3000, device_memory_bytes=10_500) == (5, 7, 5)
    with pytest.raises(ConfigurationError, match="kv_cache_bytes holds 1 blocks of 1000 bytes"):
        pages(kv_cache_bytes=1999)


def test_a_device_memory_below_the_floors_is_refused_with_what_it_takes() -> None:
    with pytest.raises(ValidationError, match="device_memory_bytes 7999 must be at least 8000"):
        Settings(kv_cache_bytes=5000, adapter_budget_bytes=3000, device_memory_bytes=7999)
