"""The section of a `fairness` result: what the others feel of one hot adapter."""

from collections.abc import Mapping
from typing import Any

from loadtest.page.figures import bars_side_by_side
from loadtest.page.sections import Plot, Section, Table


def felt(source: str, result: Mapping[str, Any]) -> Section:
    """Bars of the others' p95 TTFT under each setting, from `felt_by_others`; what is no result has none."""
    rows = [{"valid": result["valid"], **row} for row in result["felt_by_others"]]
    settings = [str(row["fairness"]) for row in rows]
    headings = ("fairness", "even load", "with the hot adapter", "ratio", "repeats")
    table = Table(headings, tuple((str(row["fairness"]), *_figures(row), str(row["repeats"])) for row in rows))
    bars = [
        (name, [row[column] * 1e3 if row["valid"] else None for row in rows])
        for name, column in (("even load", "p95_without"), ("with the hot adapter", "p95_with"))
    ]
    figure = bars_side_by_side(settings, bars, "p95 TTFT of the others, ms")
    figure.update_xaxes(title="fairness")
    note = (
        "Two loads under each setting: one that asks all adapters evenly, and the same with one adapter asked far more "
        "than its share. Of both, the time to first token of the requests for the other adapters; the fairer the "
        "setting, the less the bars differ. Medians over the repeats; the ratio is the median of the repeats' own."
    )
    return Section(f"What the others feel of a hot adapter: {source}", note, (Plot("p95 TTFT", figure, table),))


def _figures(row: Mapping[str, Any]) -> tuple[str, str, str]:
    if not row["valid"]:
        return "no result", "no result", "no result"
    return f"{row['p95_without'] * 1e3:,.0f} ms", f"{row['p95_with'] * 1e3:,.0f} ms", f"{row['ratio']:.2f}"
