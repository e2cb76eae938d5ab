"""Closed and open loops of streaming chat completions.

A closed loop has so many clients, each with one request open at a time: a slow server is asked less. An open loop sends
every request at its time, however slow the server is, and counts its latency from that time.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import httpx

from loadtest.workload import WorkItem

STREAM_END = "[DONE]"


@dataclass(frozen=True)
class Outcome:
    """What one request got. Times in seconds.

    `scheduled` and `sent` count from the start of the loop; a closed loop schedules a request when it sends it.
    `seconds` runs from the scheduled time to the end of the stream; `time_to_first_token` to the first chunk with
    text, and `seconds` itself where there was none. `gaps` lie between chunks with text, which may hold several tokens
    or a part of none: tokens are counted by the server, in `completion_tokens`. `digest`, the reason of a `fallback`,
    and `residency` (`device`, `host` or `store`: where the adapter was when the request came) are what the answer says
    of the adapter that gave it. `error` is set where the request did not end well.
    """

    item: WorkItem
    seconds: float
    time_to_first_token: float
    gaps: tuple[float, ...] = ()
    completion_tokens: int = 0
    digest: str | None = None
    fallback: str | None = None
    error: str | None = None
    scheduled: float = 0.0
    sent: float = 0.0
    prompt_tokens: int = 0
    residency: str | None = None

    @property
    def seconds_after_first_token(self) -> float:
        """From the first chunk with text to the last; 0 where there is one or none."""
        return sum(self.gaps)


@dataclass(frozen=True)
class Run:
    """The outcomes of one loop, in order of their items, and its wall time in seconds."""

    outcomes: tuple[Outcome, ...]
    wall_seconds: float


async def run_closed_loop(
    client: httpx.AsyncClient,
    items: Sequence[WorkItem],
    *,
    clients: int,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> Run:
    """Send every item, `clients` at a time; each client sends its next request when its last one has ended.

    `client` knows the server's address and key. `on_outcome` is called as each request ends.

    Raises:
        ValueError: `clients` is less than 1.
    """
    if clients < 1:
        raise ValueError("clients must be positive")
    waiting = deque(items)
    outcomes: list[Outcome] = []

    async def one_client() -> None:
        while waiting:
            outcome = await ask(client, waiting.popleft(), began=began)
            outcomes.append(outcome)
            on_outcome(outcome)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(clients, len(items))):
            group.create_task(one_client())
    return _run(outcomes, began)


async def run_open_loop(
    client: httpx.AsyncClient,
    items: Sequence[WorkItem],
    *,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> Run:
    """Send every item at its own time, `at` seconds from the start, whether or not others have ended.

    Latencies count from those times, also where this process was late to send, so that a queue in front of the server
    is never left out of the figures.
    """
    outcomes: list[Outcome] = []
    began = perf_counter()

    async def one_request(item: WorkItem) -> None:
        outcome = await ask(client, item, began=began, scheduled=began + item.at)
        outcomes.append(outcome)
        on_outcome(outcome)

    async with asyncio.TaskGroup() as group:
        for item in items:
            await asyncio.sleep(max(0.0, began + item.at - perf_counter()))
            group.create_task(one_request(item))
    return _run(outcomes, began)


def _run(outcomes: list[Outcome], began: float) -> Run:
    wall_seconds = perf_counter() - began
    return Run(tuple(sorted(outcomes, key=lambda outcome: outcome.item.index)), wall_seconds)


async def ask(
    client: httpx.AsyncClient, item: WorkItem, *, began: float | None = None, scheduled: float | None = None
) -> Outcome:
    """Send one request and read its stream to the end. What goes wrong is in the outcome, never raised.

    `began` is when the loop began, and `scheduled` when the request should be sent, by `perf_counter`; both are now
    where they are not given.
    """
    answer = _Answer(item, began, scheduled)
    try:
        async with client.stream("POST", "/v1/chat/completions", json=_body(item)) as response:
            if response.status_code != httpx.codes.OK:
                return answer.failed(f"HTTP {response.status_code}: {_error_code(await response.aread())}")
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    answer.read(line.removeprefix("data:").strip())
    except httpx.HTTPError as error:
        return answer.failed(type(error).__name__)
    except (ValueError, KeyError, TypeError) as error:
        return answer.failed(f"malformed stream: {type(error).__name__}")
    return answer.outcome()


class _Answer:
    """The stream of one request as it arrives."""

    def __init__(self, item: WorkItem, began: float | None, scheduled: float | None) -> None:
        now = perf_counter()
        self._item = item
        self._started = now if scheduled is None else scheduled
        self._scheduled, self._sent = (time - (now if began is None else began) for time in (self._started, now))
        self._residency: str | None = None
        self._prompt_tokens = 0
        self._chunk_times: list[float] = []
        self._completion_tokens = 0
        self._digest: str | None = None
        self._fallback: str | None = None
        self._error: str | None = None
        self._ended = False

    def read(self, data: str) -> None:
        """Take in one event of the stream."""
        if data == STREAM_END:
            self._ended = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            self._error = f"in stream: {chunk['error']['code']}"
            return
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            self._chunk_times.append(perf_counter())
        if usage := chunk.get("usage"):
            self._completion_tokens = usage["completion_tokens"]
            self._prompt_tokens = usage.get("prompt_tokens", 0)
        if origin := chunk.get("switchyard"):
            self._digest = origin["digest"]
            self._residency = origin.get("residency")
            self._fallback = origin["fallback"]["reason"] if origin["fallback"] else None

    def failed(self, error: str) -> Outcome:
        """The outcome of a request that ended in an error of the transport or the server."""
        self._error = error
        return self.outcome()

    def outcome(self) -> Outcome:
        """What the request got, ending now."""
        seconds = perf_counter() - self._started
        times = self._chunk_times
        return Outcome(
            item=self._item,
            seconds=seconds,
            time_to_first_token=times[0] - self._started if times else seconds,
            gaps=tuple(later - earlier for earlier, later in pairwise(times)),
            completion_tokens=self._completion_tokens,
            digest=self._digest,
            fallback=self._fallback,
            error=self._error if self._ended or self._error else "stream broke off",
            scheduled=self._scheduled,
            sent=self._sent,
            prompt_tokens=self._prompt_tokens,
            residency=self._residency,
        )


def _body(item: WorkItem) -> dict[str, Any]:
    return {
        "model": item.model,
        "messages": [{"role": "user", "content": item.prompt}],
        "max_tokens": item.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "fallback": "error",
    }


def _error_code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "no error object"
