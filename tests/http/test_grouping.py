"""Interleaved arrivals at a busy engine run in groups, one load a group, and nobody outwaits the window."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.http.client import body, stream
from tests.http.real_server import RealServer, serving

WINDOW = 0.05


def test_interleaved_adapters_are_grouped(
    base: Path, adapters: dict[str, str], server: RealServer, tmp_path: Path
) -> None:
    (tmp_path / "store").symlink_to(server.store)
    with serving(base, tmp_path, window_ms=WINDOW * 1000, max_rows=32) as fresh:

        async def scenario() -> None:
            async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=64)) as client:
                busy = stream(client, fresh, **body("base", max_tokens=300))
                await anext(busy)
                tasks = []
                for number in range(12):
                    for model in ("red", "green"):
                        request = body(model, f"{number} {model}", max_tokens=4)
                        tasks.append(asyncio.create_task(client.post(f"{fresh.url}/v1/completions", json=request)))
                for answer in await asyncio.gather(*tasks):
                    assert answer.status_code == 200
                async for _ in busy:
                    pass

        asyncio.run(scenario())
        fresh.wait_idle()
        assert fresh.metric("switchyard_adapter_loads_total", outcome="loaded") == 2
        groups = fresh.metric("switchyard_group_size_count")
        requests = fresh.metric("switchyard_group_size_sum")
        assert requests == 25
        assert groups <= 13, "24 interleaved requests were admitted in more than 12 groups"
        held = fresh.metric("switchyard_window_held_seconds_count")
        assert held == groups
        # A step that takes longer than the ones before it may carry a held group past its window, never by more.
        assert fresh.metric("switchyard_window_held_seconds_bucket", le="0.1") == held


@pytest.mark.parametrize("window_ms", [-1, 51])
def test_the_window_has_bounds(window_ms: int) -> None:
    from pydantic import ValidationError

    from server.config import Settings

    with pytest.raises(ValidationError, match="window_ms"):
        Settings(window_ms=window_ms)
