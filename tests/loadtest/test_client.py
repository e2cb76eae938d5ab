"""The closed loop keeps its number of clients busy, and calls every kind of bad answer by its name."""

import asyncio
from collections.abc import Callable

import pytest

from loadtest.client import Outcome, Run, run_closed_loop
from loadtest.measurement import http_client
from loadtest.report import problem
from loadtest.workload import WorkItem, Workload
from tests.loadtest.fake_server import DIGESTS, FakeServer

Serve = Callable[[FakeServer], str]

FAULTS = {
    "refused": "HTTP 429: queue_full",
    "crashed": "HTTP 502: no error object",
    "broken off": "stream broke off",
    "malformed": "malformed stream: JSONDecodeError",
    "error in stream": "in stream: engine_failed",
    "other version": "wrong digest",
    "fallback": "fallback: timeout",
    "short": "wrong length",
}


def items(count: int, max_tokens: int = 5) -> tuple[WorkItem, ...]:
    return Workload(tuple(DIGESTS), requests=count, max_tokens=max_tokens).items()


def load(url: str, work: tuple[WorkItem, ...], *, clients: int, api_key: str | None = None) -> Run:
    async def run() -> Run:
        async with http_client(url, api_key=api_key) as client:
            return await run_closed_loop(client, work, clients=clients)

    return asyncio.run(run())


def test_every_item_is_asked_once_and_answered_in_full(serve: Serve) -> None:
    fake = FakeServer()
    work = items(20)
    run = load(serve(fake), work, clients=4)
    assert [outcome.item for outcome in run.outcomes] == list(work)
    assert [problem(outcome, DIGESTS) for outcome in run.outcomes] == [None] * 20
    assert sorted(body["messages"][0]["content"] for body in fake.requests) == sorted(item.prompt for item in work)


def test_requests_leave_nothing_to_chance(serve: Serve) -> None:
    fake = FakeServer()
    load(serve(fake), items(1), clients=1)
    (body,) = fake.requests
    asked = {name: body[name] for name in ("temperature", "stream", "ignore_eos", "fallback", "max_tokens")}
    assert asked == {"temperature": 0, "stream": True, "ignore_eos": True, "fallback": "error", "max_tokens": 5}


def test_the_key_is_sent(serve: Serve) -> None:
    fake = FakeServer()
    load(serve(fake), items(2), clients=1, api_key="secret")
    assert fake.keys == {"Bearer secret"}


@pytest.mark.parametrize("clients", [1, 3, 8])
def test_so_many_streams_are_open_at_once(serve: Serve, clients: int) -> None:
    fake = FakeServer(token_seconds=0.02)
    load(serve(fake), items(16), clients=clients)
    assert fake.most_at_once == clients


def test_more_clients_than_items_are_not_started(serve: Serve) -> None:
    fake = FakeServer(token_seconds=0.02)
    assert len(load(serve(fake), items(2), clients=16).outcomes) == 2


def test_times_are_those_of_the_stream(serve: Serve) -> None:
    run = load(serve(FakeServer(token_seconds=0.05)), items(1), clients=1)
    (outcome,) = run.outcomes
    assert outcome.completion_tokens == 5
    assert len(outcome.gaps) == 4
    assert 0.05 <= outcome.time_to_first_token < outcome.seconds
    # Chunks may arrive late and so close together, but the last cannot come before its time.
    assert outcome.time_to_first_token + outcome.seconds_after_first_token >= 5 * 0.05
    assert outcome.time_to_first_token + outcome.seconds_after_first_token <= outcome.seconds <= run.wall_seconds


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_answer_is_named_and_spares_the_others(serve: Serve, fault: str) -> None:
    run = load(serve(FakeServer(faults={1: fault})), items(4), clients=1)
    assert [problem(outcome, DIGESTS) for outcome in run.outcomes] == [None, FAULTS[fault], None, None]


def test_a_server_that_is_not_there_fails_every_request() -> None:
    run = load("http://127.0.0.1:9", items(3), clients=2)
    assert [outcome.error for outcome in run.outcomes] == ["ConnectError"] * 3


def test_each_end_is_announced(serve: Serve) -> None:
    seen: list[Outcome] = []
    url = serve(FakeServer())

    async def run() -> Run:
        async with http_client(url) as client:
            return await run_closed_loop(client, items(6), clients=3, on_outcome=seen.append)

    outcomes = asyncio.run(run()).outcomes
    assert sorted(seen, key=lambda outcome: outcome.item.index) == list(outcomes)


def test_no_clients_is_refused() -> None:
    with pytest.raises(ValueError, match="clients"):
        load("http://127.0.0.1:9", items(1), clients=0)
