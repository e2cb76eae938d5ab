"""The open loop sends at its times, whatever the server does, and counts from them."""

import asyncio
import time
from collections.abc import Callable

import pytest

from loadtest.client import Run, run_open_loop
from loadtest.measurement import http_client
from loadtest.workload import WorkItem
from tests.loadtest.fake_server import FakeServer

Serve = Callable[[FakeServer], str]


def load(url: str, items: list[WorkItem]) -> Run:
    async def run() -> Run:
        async with http_client(url) as client:
            return await run_open_loop(client, items)

    return asyncio.run(run())


def test_a_slow_server_is_asked_no_less(serve: Serve) -> None:
    fake = FakeServer(token_seconds=0.3)
    items = [WorkItem(index, "adapter-0", "hello", 2, at=0.05 * index) for index in range(6)]
    run = load(serve(fake), items)
    assert fake.most_at_once == 6
    assert [outcome.scheduled for outcome in run.outcomes] == pytest.approx([item.at for item in items])
    assert all(outcome.sent >= outcome.scheduled for outcome in run.outcomes)


def test_latency_counts_from_the_scheduled_time(serve: Serve) -> None:
    url = serve(FakeServer())

    async def run() -> Run:
        async with http_client(url) as client:
            loop = asyncio.create_task(run_open_loop(client, [WorkItem(0, "adapter-0", "hello", 2, at=0.05)]))
            await asyncio.sleep(0.01)
            # The process that should send is busy: what it makes a user wait must be in the figures.
            time.sleep(0.4)
            return await loop

    (outcome,) = asyncio.run(run()).outcomes
    assert outcome.sent - outcome.scheduled >= 0.3
    assert outcome.time_to_first_token >= 0.3
    assert outcome.seconds >= outcome.time_to_first_token
