"""What a simulation writes and prints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from rich.table import Table

from loadtest.simulation.comparison import Figure
from loadtest.simulation.contender import BASELINE, OPTIMUM
from loadtest.simulation.outcome import Outcome, gap_closed
from loadtest.simulation.simulated_server import SimulatedServer

SCHEMA = "switchyard.simulation/1"


@dataclass(frozen=True)
class Trialled:
    """An outcome, and how long the simulation of it took."""

    outcome: Outcome
    simulated_in_seconds: float


def document(
    trace: Mapping[str, object],
    server: SimulatedServer,
    largest_bytes: int,
    trialled: Sequence[Trialled],
    figures: Sequence[Figure] = (),
) -> dict[str, Any]:
    """The JSON result. `gap_closed` is the share of the way from LRU's device hit rate to Belady's at that budget."""
    return {
        "schema": SCHEMA,
        "kind": "simulation",
        "trace": dict(trace),
        "server": msgspec.to_builtins(server),
        "largest_adapter_bytes": largest_bytes,
        "outcomes": [
            {
                **asdict(one.outcome),
                "budget_multiple": one.outcome.device_budget_bytes / largest_bytes,
                "device_hit_rate": one.outcome.device_hit_rate,
                "host_hit_rate": one.outcome.host_hit_rate,
                "gap_closed": _gap_closed(one.outcome, trialled),
                "cold_starts_to_baseline": _cold_ratio(one.outcome, trialled),
                "simulated_in_seconds": round(one.simulated_in_seconds, 3),
                "simulated_requests_per_second": round(one.outcome.requests / max(one.simulated_in_seconds, 1e-9)),
            }
            for one in trialled
        ],
        "compared": [{**asdict(figure), "error": figure.error} for figure in figures],
    }


def outcomes_table(trialled: Sequence[Trialled], largest_bytes: int) -> Table:
    """One line a policy and budget."""
    table = Table(caption="waits from arrival until the adapter is resident; to LRU: cold starts as a share of LRU's")
    for heading in ("cache", "policy", "device hits", "host hits", "cold starts", "to LRU", "gap to Belady closed"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for heading in ("mean wait", "p99 wait", "loaded", "preloads useful/wasted"):
        table.add_column(heading, justify="right")
    for one in trialled:
        outcome = one.outcome
        ratio, closed = _cold_ratio(outcome, trialled), _gap_closed(outcome, trialled)
        table.add_row(
            f"{outcome.device_budget_bytes / largest_bytes:g}x",
            outcome.policy,
            f"{outcome.device_hit_rate:.1%}",
            f"{outcome.host_hit_rate:.1%}",
            f"{outcome.cold_starts:,}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if closed is None else f"{closed:.0%}",
            f"{1000 * outcome.wait_mean:.2f} ms",
            f"{1000 * outcome.wait_p99:.2f} ms",
            f"{outcome.device_bytes / 2**30:.1f} GiB",
            f"{outcome.preloads_useful:,}/{outcome.preloads_wasted:,}" if outcome.preloading else "",
        )
    return table


def comparison_table(figures: Sequence[Figure]) -> Table:
    """What was measured, and what the simulation makes of it."""
    table = Table(title="Against the real server")
    table.add_column("figure")
    for heading in ("measured", "simulated", "error"):
        table.add_column(heading, justify="right")
    for figure in figures:
        rate = figure.name.endswith("rate")
        table.add_row(
            figure.name,
            f"{figure.measured:.1%}" if rate else f"{figure.measured:,.0f}",
            f"{figure.simulated:.1%}" if rate else f"{figure.simulated:,.0f}",
            f"{100 * figure.error:+.1f} points" if rate else f"{figure.error:+.1%}",
        )
    return table


def _rival(outcome: Outcome, name: str, trialled: Sequence[Trialled]) -> Outcome | None:
    budget = outcome.device_budget_bytes
    return next(
        (o.outcome for o in trialled if o.outcome.policy == name and o.outcome.device_budget_bytes == budget), None
    )


def _gap_closed(outcome: Outcome, trialled: Sequence[Trialled]) -> float | None:
    baseline, optimum = _rival(outcome, BASELINE, trialled), _rival(outcome, OPTIMUM, trialled)
    return gap_closed(outcome, baseline, optimum) if baseline and optimum else None


def _cold_ratio(outcome: Outcome, trialled: Sequence[Trialled]) -> float | None:
    baseline = _rival(outcome, BASELINE, trialled)
    return outcome.cold_starts / baseline.cold_starts if baseline and baseline.cold_starts else None
