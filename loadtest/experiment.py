"""One measured load: warm-up, the loop, and what the server counted meanwhile."""

import asyncio
from collections.abc import Callable, Mapping

import httpx

from loadtest.client import Outcome, Run, ask, run_closed_loop, run_open_loop
from loadtest.measurement import WarmUpError, http_client
from loadtest.own_server import Target
from loadtest.plan import Load
from loadtest.report import problem
from loadtest.result import Point
from loadtest.sampler import Sampler, scrape_of
from loadtest.server_metrics import rise
from loadtest.workload import WorkItem

# The engine reports to the API process a moment after a request's last token.
_SETTLE_SECONDS = 0.5

Announce = Callable[[str, int], Callable[[Outcome], None]]
"""Called with the title of a loop and the number of its requests; what it returns is called with each outcome."""


async def measure_point(
    target: Target,
    load: Load,
    *,
    api_key: str | None = None,
    varied: Mapping[str, object] | None = None,
    repeat: int = 0,
    announce: Announce = lambda *_: lambda _: None,
) -> Point:
    """Warm the server up and load it.

    Raises:
        WarmUpError: a request of the warm-up was not answered as it should be.
        httpx.HTTPError: the server cannot be reached.
    """
    digests: dict[str, str | None] = {**target.digests, "base": None}
    async with http_client(target.url, api_key=api_key) as client:
        warm_up, items = load.items(overhead=await _template_tokens(client))
        warmed = await _loop(client, warm_up, load.clients, announce("warm-up", len(warm_up)))
        for outcome in warmed.outcomes:
            if (found := problem(outcome, digests)) is not None:
                raise WarmUpError(f"{outcome.item.model} does not answer as itself: {found}")
        before = await scrape_of(client)
        async with Sampler(client, target.process_id) as sampler:
            run = await _loop(client, items, load.clients, announce("measured", len(items)))
        await asyncio.sleep(_SETTLE_SECONDS)
        after = await scrape_of(client)
    server = rise(before, after) if before is not None and after is not None else None
    return Point(run, digests, tuple(sampler.samples), server, varied, repeat, target.ranks, warmed)


async def _loop(
    client: httpx.AsyncClient, items: tuple[WorkItem, ...], clients: int | None, on_outcome: Callable[[Outcome], None]
) -> Run:
    if clients is None:
        return await run_open_loop(client, items, on_outcome=on_outcome)
    return await run_closed_loop(client, items, clients=clients, on_outcome=on_outcome)


async def _template_tokens(client: httpx.AsyncClient) -> int:
    """How many tokens the chat template adds: those of a prompt of one word, without the word."""
    outcome = await ask(client, WorkItem(0, "base", "the", 1))
    if outcome.error is not None:
        raise WarmUpError(f"the base does not answer: {outcome.error}")
    return max(0, outcome.prompt_tokens - 1)
