"""Turns and deadlines over real HTTP."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.http.client import body
from tests.http.real_server import RealServer, serving

QUEUED = 24


@pytest.fixture(scope="module")
def narrow(base: Path, server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server with two rows over the same store."""
    directory = tmp_path_factory.mktemp("narrow")
    (directory / "store").symlink_to(server.store)
    with serving(base, directory, max_rows=2, window_max_group=2) as running:
        yield running


async def ended(client: httpx.AsyncClient, server: RealServer, model: str, **fields: object) -> tuple[int, float]:
    """The status of a completion, and when it ended."""
    request = body(model, **fields)  # type: ignore[arg-type]
    response = await client.post(f"{server.url}/v1/completions", json=request, timeout=120)
    return response.status_code, time.monotonic()


def test_a_hot_adapters_queue_does_not_keep_anothers_single_request_waiting(
    narrow: RealServer, adapters: dict[str, str]
) -> None:
    async def scenario() -> tuple[list[tuple[int, float]], tuple[int, float]]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=64)) as client:
            for model in ("red", "green"):
                await ended(client, narrow, model, max_tokens=1)
            hot = [
                asyncio.create_task(ended(client, narrow, "red", prompt=f"{number} red", max_tokens=24))
                for number in range(QUEUED)
            ]
            await asyncio.wait(hot, return_when=asyncio.FIRST_COMPLETED)
            cold = await ended(client, narrow, "green", max_tokens=4)
            return [await task for task in hot], cold

    hot, (status, cold_end) = asyncio.run(scenario())
    assert {status, *(one for one, _ in hot)} == {200}
    after = sum(end > cold_end for _, end in hot)
    assert after >= QUEUED // 2, "the single request waited for the queue of the hot adapter"


def test_a_deadline_ends_its_own_request_with_a_504_and_no_other(narrow: RealServer, adapters: dict[str, str]) -> None:
    async def scenario() -> tuple[list[tuple[int, float]], httpx.Response]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=64)) as client:
            others = [
                asyncio.create_task(ended(client, narrow, "red", prompt=f"{number} red", max_tokens=40))
                for number in range(4)
            ]
            await asyncio.sleep(0.02)
            request = body("red", max_tokens=400, timeout=0.1)
            late = await client.post(f"{narrow.url}/v1/completions", json=request, timeout=60)
            return [await task for task in others], late

    others, late = asyncio.run(scenario())
    assert [status for status, _ in others] == [200] * 4
    assert late.status_code == 504
    error = late.json()["error"]
    assert error["code"] == "deadline_exceeded"
    assert error["message"].startswith("timeout: ")
    narrow.wait_idle()
    assert narrow.metric("switchyard_deadline_exceeded_total") == 1
