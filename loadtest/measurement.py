"""A whole measurement: a warm-up, then one closed loop after another over the same workload."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.client import Outcome, run_closed_loop
from loadtest.report import Level, problem, summarise
from loadtest.workload import WorkItem, Workload

REQUEST_SECONDS = 600.0
_WARM_UP_TOKENS = 4


class WarmUpError(Exception):
    """A request of the warm-up failed, so that measuring is of no use; the message says which and why."""


def http_client(url: str, *, api_key: str | None = None) -> httpx.AsyncClient:
    """A client of one server, without a limit on connections and without a proxy, which would be measured too."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(REQUEST_SECONDS, connect=10.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=False,
    )


async def measure(
    client: httpx.AsyncClient,
    workload: Workload,
    *,
    levels: Sequence[int],
    expected_digests: Mapping[str, str],
    console: Console,
) -> tuple[Level, ...]:
    """Measure the workload at each number of clients in `levels`, with prompts of its own each.

    Before that every adapter is asked once, so that the figures are those of a server that has been running: what a
    first load costs is another question.

    Raises:
        WarmUpError: an adapter did not answer as itself.
    """
    with _progress(console) as progress:
        warm_up = tuple(
            WorkItem(index, name, "Say hello.", _WARM_UP_TOKENS) for index, name in enumerate(workload.adapters)
        )
        outcomes = await run_closed_loop(client, warm_up, clients=1, on_outcome=_counter(progress, "warm-up", warm_up))
        _check_warm_up(outcomes.outcomes, expected_digests)
        measured = []
        for number, clients in enumerate(levels):
            items = workload.items(number)
            title = f"{clients} client{'s' if clients > 1 else ''}"
            run = await run_closed_loop(client, items, clients=clients, on_outcome=_counter(progress, title, items))
            measured.append(summarise(run, clients=clients, expected_digests=expected_digests))
    return tuple(measured)


def _check_warm_up(outcomes: Sequence[Outcome], expected_digests: Mapping[str, str]) -> None:
    for outcome in outcomes:
        if (found := problem(outcome, expected_digests)) is not None:
            raise WarmUpError(f"{outcome.item.model} does not answer as itself: {found}")


def _progress(console: Console) -> AbstractContextManager[Progress]:
    return Progress(
        TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _counter(progress: Progress, title: str, items: Sequence[WorkItem]) -> Callable[[Outcome], None]:
    task = progress.add_task(title, total=len(items))
    return lambda _: progress.advance(task)
