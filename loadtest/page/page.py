"""The whole page, in one file that needs nothing from the network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly
from markupsafe import Markup

from loadtest.page import sections
from loadtest.page.felt import felt
from loadtest.page.point import PointView, quantiles
from loadtest.page.sections import Plot, Section, Slo
from loadtest.page.simulated import simulated

_DETAILED = 12
_TEMPLATES = Path(__file__).parent


Named = Sequence[tuple[str, Mapping[str, Any]]]
"""Documents, each with its file's name."""


def render(results: Named, slo: Slo, title: str = "Load test", *, simulations: Named = ()) -> str:
    """The page of results, and of what `simulate` wrote.

    Raises:
        ResultError: one of the simulations is none.
    """
    points = [PointView(source, document) for source, result in results for document in result["points"]]
    parts = [felt(source, result) for source, result in results if "felt_by_others" in result]
    parts += [section for section in _sections(points, slo) if section is not None]
    parts += [simulated(source, document) for source, document in simulations]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    plots = _Plots()
    return environment.get_template("page.html.j2").render(
        title=title,
        subtitle=_subtitle(results, points, simulations),
        measured=bool(points),
        plotly=Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 -- the library's own script
        failures=_failures(points),
        requests=sum(point.document["summary"]["requests"] for point in points),
        cards=_cards(points, slo) if points else (),
        facts=_facts(results),
        sections=parts,
        slo=slo,
        drawn=plots.draw,
    )


class _Plots:
    """Draws plots; each gets a number, so that equal results give equal pages."""

    def __init__(self) -> None:
        self._count = 0

    def draw(self, plot: Plot) -> Markup:
        self._count += 1
        config = {"displayModeBar": False, "responsive": True}
        html = plot.figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"plot-{self._count}", config=config)
        return Markup(html)  # noqa: S704 -- plotly escapes what it is given


def _sections(points: Sequence[PointView], slo: Slo) -> list[Section | None]:
    detailed = [point for point in points if not point.document["repeat"]][:_DETAILED]
    first = [point for point in points if not point.document["repeat"]]
    return [
        sections.comparison(points, slo),
        sections.tiers(first),
        sections.cold_and_warm(first),
        *(sections.details(point, slo, foldable=len(detailed) > 1, opened=point is detailed[-1]) for point in detailed),
    ]


def _failures(points: Sequence[PointView]) -> list[str]:
    found: Counter[tuple[str, str]] = Counter()
    for point in points:
        for kind, count in point.document["failures"].items():
            found[point.title, kind] += count
    return [f"{title}: {count} x {kind}" for (title, kind), count in found.items()]


def _subtitle(results: Named, points: Sequence[PointView], simulations: Named) -> str:
    said = []
    if results:
        measured = results[0][1]["subject"]["machine"].get("measured", "")
        loads = f"{len(points)} load{'s' if len(points) > 1 else ''}"
        said.append(f"{loads} of {', '.join(source for source, _ in results)}, measured {measured}")
    if simulations:
        said.append(f"simulated: {', '.join(source for source, _ in simulations)}")
    return "; ".join(said)


def _cards(points: Sequence[PointView], slo: Slo) -> list[tuple[str, str]]:
    """The headline: of one load its figures, of several their range."""
    rates = [point.document["summary"]["tokens_per_second"] for point in points]
    typical = [value * 1e3 for p in points if (value := quantiles(p.ttfts(), [50])[0]) is not None]
    worst = [value * 1e3 for p in points if (value := quantiles(p.ttfts(), [99])[0]) is not None]
    hits = [100 * ratio for p in points if (ratio := p.document["summary"]["device_hit_ratio"]) is not None]
    goodput = [point.goodput(slo.ttft, slo.gap) for point in points]
    return [
        (_range(rates, "{:.0f}"), "tokens a second"),
        (_range(typical, "{:.0f}") + " ms", "TTFT, median"),
        (_range(worst, "{:.0f}") + " ms", "TTFT, p99"),
        (_range(goodput, "{:.1f}") + " /s", "goodput at the SLO"),
        *([(_range(hits, "{:.0f}") + " %", "adapters found on the device")] if hits else []),
    ]


def _range(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


_OWN_SERVER = frozenset({"base", "store", "publish", "ranks", "target_modules", "cache"})


def _facts(results: Named) -> list[tuple[str, str]]:
    facts = []
    for source, result in results:
        subject = result["subject"]
        options = {name: value for name, value in subject["options"].items() if value not in (None, "")}
        machine = dict(subject["machine"])
        packages = machine.pop("packages", {})
        if len(results) > 1:
            facts.append(("result", source))
        url = options.pop("url", None)
        if url is not None:  # what only a server of our own is given says nothing of another
            options = {name: value for name, value in options.items() if name not in _OWN_SERVER}
        facts += [
            ("server", url or f"started for this test, base {options.get('base')}"),
            ("server flags", "not known" if url else " ".join(subject["server_flags"]) or "none"),
            ("load", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items())),
            ("machine", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())),
            ("software", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ]
    return facts
