"""The section of a simulation: what `simulate --plot` draws, and its numbers."""

from collections.abc import Mapping
from typing import Any

import msgspec

from loadtest.page.sections import Plot, Section, Table
from loadtest.result import ResultError
from loadtest.simulation.curve import curves
from loadtest.simulation.outcome import Outcome


def simulated(source: str, document: Mapping[str, Any]) -> Section:
    """Hit rates and cold starts over the cache sizes, by policy.

    Raises:
        ResultError: the document is not what `simulate` writes.
    """
    try:
        outcomes = msgspec.convert(document["outcomes"], list[Outcome])
        largest = int(document["largest_adapter_bytes"])
        played = int(document["trace"]["requests"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{source}: no outcomes of `simulate`: {error!r}") from error
    rows = tuple(
        (
            f"{outcome.device_budget_bytes / largest:g}x",
            outcome.policy,
            f"{outcome.device_hit_rate:.1%}",
            f"{outcome.host_hit_rate:.1%}",
            f"{outcome.cold_starts:,}",
            f"{1e3 * outcome.wait_mean:.2f} ms",
            f"{1e3 * outcome.wait_p99:.2f} ms",
        )
        for outcome in outcomes
    )
    table = Table(("cache", "policy", "device hits", "host hits", "cold starts", "mean wait", "p99 wait"), rows)
    note = (
        f"Not measured: {played:,} requests played on a virtual clock, by the server's own policy code. `belady` knows "
        "the future. Cold starts are requests that waited for a load; a wait lasts until the adapter is there."
    )
    plots = tuple(Plot(title, figure) for title, figure in curves(outcomes, largest))
    return Section(f"Simulated: {source}", note, plots, (table,), side_by_side=True)
