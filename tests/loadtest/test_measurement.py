"""A measurement warms the server up, has fresh prompts at every level, and stops where it would be of no use."""

import asyncio
from collections.abc import Callable

import pytest
from rich.console import Console

from loadtest.measurement import WarmUpError, http_client, measure
from loadtest.report import Level
from loadtest.served_adapters import UnsuitableServerError, all_served_adapters, first_adapters
from loadtest.workload import Workload
from tests.loadtest.fake_server import DIGESTS, FakeServer

Serve = Callable[[FakeServer], str]
WORKLOAD = Workload(tuple(DIGESTS), requests=6, max_tokens=5)


def measured(url: str, *levels: int) -> tuple[Level, ...]:
    async def run() -> tuple[Level, ...]:
        async with http_client(url) as client:
            return await measure(client, WORKLOAD, levels=levels, expected_digests=DIGESTS, console=Console(quiet=True))

    return asyncio.run(run())


def adapters_of(url: str, count: int) -> dict[str, str]:
    async def run() -> dict[str, str]:
        async with http_client(url) as client:
            return first_adapters(await all_served_adapters(client), count)

    return asyncio.run(run())


def test_each_level_is_measured_in_turn(serve: Serve) -> None:
    levels = measured(serve(FakeServer()), 1, 3)
    assert [level.clients for level in levels] == [1, 3]
    assert all(level.valid and level.requests == 6 and level.tokens == 30 for level in levels)


def test_every_adapter_is_asked_once_before_the_first_level(serve: Serve) -> None:
    fake = FakeServer()
    measured(serve(fake), 1)
    warm_up, level = fake.requests[:4], fake.requests[4:]
    assert {body["model"] for body in warm_up} == set(DIGESTS)
    assert [body["model"] for body in level] == [item.model for item in WORKLOAD.items()]


def test_no_prompt_is_asked_at_two_levels(serve: Serve) -> None:
    fake = FakeServer()
    measured(serve(fake), 1, 2, 4)
    prompts = [body["messages"][0]["content"] for body in fake.requests[4:]]
    assert len(set(prompts)) == len(prompts) == 18


@pytest.mark.parametrize("fault", ["other version", "fallback", "refused"])
def test_an_adapter_that_does_not_answer_as_itself_ends_the_measurement(serve: Serve, fault: str) -> None:
    fake = FakeServer(faults={2: fault})
    with pytest.raises(WarmUpError, match="adapter-2"):
        measured(serve(fake), 1)
    assert len(fake.requests) == len(DIGESTS)


def test_a_bad_answer_in_a_level_is_counted_there(serve: Serve) -> None:
    first, second = measured(serve(FakeServer(faults={4 + 6: "short"})), 1, 1)
    assert first.valid
    assert second.failures == {"wrong length": 1}


def test_the_served_adapters_come_with_their_digests(serve: Serve) -> None:
    url = serve(FakeServer())
    assert adapters_of(url, 4) == DIGESTS
    assert list(adapters_of(url, 2)) == ["adapter-0", "adapter-1"]


def test_too_few_adapters_are_an_error(serve: Serve) -> None:
    with pytest.raises(UnsuitableServerError, match="has 4 adapters and 5"):
        adapters_of(serve(FakeServer()), 5)
