"""Each event reaches the request it belongs to, and every request ends."""

import asyncio
from typing import get_args

import pytest

from server.engine.generation import OpenGenerations, QueuedGeneration, is_terminal
from server.engine.messages import Failed, LookupReport, Report, RequestEvent, Started, Tokens

STARTED = Started(request_id="a")
MORE = Tokens(request_id="a", token_ids=[1])
LAST = Tokens(request_id="a", token_ids=[2], finish_reason="length")
FAILED = Failed(request_id="a", code="engine_failed", message="no")


async def _events(generation: QueuedGeneration) -> list[RequestEvent]:
    return [event async for event in generation]


def gathered(generation: QueuedGeneration) -> list[RequestEvent]:
    """All events to the end; TimeoutError when none is coming."""
    return asyncio.run(asyncio.wait_for(_events(generation), 1))


@pytest.mark.parametrize(("event", "terminal"), [(STARTED, False), (MORE, False), (LAST, True), (FAILED, True)])
def test_a_failure_and_a_finish_reason_are_terminal(event: RequestEvent, terminal: bool) -> None:
    assert is_terminal(event) is terminal


def test_events_arrive_in_order_and_iteration_ends_with_the_terminal_one() -> None:
    requests = OpenGenerations()
    generation = requests.open("a", lambda: None)
    for event in (STARTED, Tokens(request_id="b", token_ids=[9]), MORE, LAST):
        requests.route(event)
    assert len(requests) == 0
    assert gathered(generation) == [STARTED, MORE, LAST]
    assert generation.ended


def test_cancelling_reaches_the_engine_once_and_drops_what_follows() -> None:
    cancelled: list[str] = []
    requests = OpenGenerations()
    generation = requests.open("a", lambda: cancelled.append("a"))
    generation.cancel()
    generation.cancel()
    requests.route(MORE)
    assert cancelled == ["a"]
    assert len(requests) == 0
    assert gathered(generation) == []


def test_cancelling_a_request_whose_end_is_on_its_way_tells_the_engine_nothing() -> None:
    cancelled: list[str] = []
    requests = OpenGenerations()
    generation = requests.open("a", lambda: cancelled.append("a"))
    requests.route(LAST)
    generation.cancel()
    assert cancelled == []


def test_a_dead_engine_fails_every_open_request_and_no_ended_one() -> None:
    requests = OpenGenerations()
    ended, open_, other = (requests.open(name, lambda: None) for name in ("a", "b", "c"))
    requests.route(LAST)
    requests.fail_all("engine_unavailable", "it died")
    assert gathered(ended) == [LAST]
    for name, generation in (("b", open_), ("c", other)):
        assert gathered(generation) == [Failed(request_id=name, code="engine_unavailable", message="it died")]
    assert len(requests) == 0


def test_reports_go_to_the_observer_and_request_events_do_not() -> None:
    seen: list[Report] = []
    requests = OpenGenerations()
    requests.route(LookupReport(name="a", digest="sha256:a", tier="device"))
    requests.observe(seen.append)
    requests.open("a", lambda: None)
    requests.route(LookupReport(name="a", digest="sha256:a", tier="store"))
    requests.route(LAST)
    assert seen == [LookupReport(name="a", digest="sha256:a", tier="store")]
    assert isinstance(seen[0], get_args(Report))
