"""Hit rate against cache size, drawn: one line a policy."""

from collections.abc import Sequence

import plotly.graph_objects as go

from loadtest.page.figures import over_values
from loadtest.simulation.outcome import Outcome


def curves(outcomes: Sequence[Outcome], largest_bytes: int) -> tuple[tuple[str, go.Figure], ...]:
    """Device hit rate and cold starts over the budget, smallest first, each with its title."""
    budgets = sorted({outcome.device_budget_bytes for outcome in outcomes})
    labels = [f"{budget / largest_bytes:g}x" for budget in budgets]
    by_place = {(outcome.policy, outcome.device_budget_bytes): outcome for outcome in outcomes}
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))

    def lines(figure: str) -> list[tuple[str, list[float | None]]]:
        return [
            (policy, [getattr(by_place.get((policy, budget)), figure, None) for budget in budgets])
            for policy in policies
        ]

    hits = over_values(labels, lines("device_hit_rate"), "share of requests that hit the device")
    cold = over_values(labels, lines("cold_starts"), "requests that waited for a load")
    for figure in (hits, cold):
        figure.update_layout(xaxis_title="device cache, in multiples of the largest adapter")
    return ("Hit rate by cache size", hits), ("Cold starts by cache size", cold)


def curve_page(outcomes: Sequence[Outcome], largest_bytes: int) -> str:
    """The curves as a page of HTML that needs nothing else."""
    (_, hits), (_, cold) = drawn = curves(outcomes, largest_bytes)
    for title, figure in drawn:
        figure.update_layout(title=title)
    parts = (
        hits.to_html(full_html=False, include_plotlyjs=True, div_id="hits"),
        cold.to_html(full_html=False, include_plotlyjs=False, div_id="cold"),
    )
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Cache sizes</title>{"".join(parts)}</html>\n'
