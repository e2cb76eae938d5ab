"""The sections of the page: for each a title, how to read it, plots, and the table of their numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import plotly.graph_objects as go

from loadtest.page import figures
from loadtest.page.point import PointView, quantiles

_AXES = ("working_set", "rate", "clients")


@dataclass(frozen=True)
class Table:
    """Numbers beside a plot."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """One figure with its heading."""

    title: str
    figure: go.Figure
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page. `note` says how to read it."""

    title: str
    note: str
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    foldable: bool = False
    open: bool = True
    side_by_side: bool = False


@dataclass(frozen=True)
class Slo:
    """A promise to a user, in seconds: the first token, and 95 of 100 times between tokens, within so long."""

    ttft: float
    gap: float


def comparison(points: Sequence[PointView], slo: Slo) -> Section | None:
    """How the figures change with what a sweep varied; None where there is one load only."""
    groups = _groups(points)
    if len(groups) < 2:
        return None
    axis, labels, series = _axis(groups)
    measures = _measures(slo)
    if len(series) > 1:
        measures = [one for measure in measures for one in measure.apart()]
    plots = [plot for measure in measures if (plot := _compared(measure, axis, labels, series)) is not None]
    repeats = max(len(group) for group in groups)
    note = (
        f"Each value is the median of {repeats} interleaved runs. " if repeats > 1 else "Each value was measured once. "
    )
    if axis == "working set":
        note += (
            "The working set is the number of adapters that are asked, as a multiple of what the device holds. A "
            "server that falls off a cliff loses most of its throughput once the set exceeds 1x; a line that falls "
            "slowly is good."
        )
    else:
        note += f"The horizontal axis is the {axis}; where there are several lines, each is one setting."
    note += (
        f" Goodput counts the requests with a TTFT of at most {slo.ttft * 1e3:.0f} ms and 95 of 100 times between "
        f"tokens of at most {slo.gap * 1e3:.0f} ms."
    )
    titles = {
        "working set": "Working set against cache: is there a cliff?",
        "rate": "Over load",
        "clients": "Over load",
    }
    return Section(titles.get(axis, f"Comparison by {axis}"), note, tuple(plots), side_by_side=True)


def cold_and_warm(points: Sequence[PointView]) -> Section | None:
    """What a miss costs; None where nothing says which requests were cold."""
    known = [point for point in points if any(request.cold is not None for request in point.requests)]
    if not known:
        return None
    rows = []
    for point in known:
        cold, warm = point.ttfts(cold=True), point.ttfts(cold=False)
        (c50, c99), (w50, w99) = quantiles(cold, (50, 99)), quantiles(warm, (50, 99))
        ratio = f"{c99 / w99:.2f}x" if c99 and w99 else "-"
        rows.append((point.title, str(len(warm)), _ms(w50), _ms(w99), str(len(cold)), _ms(c50), _ms(c99), ratio))
    headings = ("load", "warm", "p50", "p99", "cold", "p50", "p99", "cold p99 / warm p99")
    note = (
        "A request is cold when its adapter was not on the device as it came, so that it had to be loaded first. The "
        "further the cold curve lies to the right of the warm one, the more a miss costs. Loading goes on while others "
        "are answered, so the two also differ by what happened to run meanwhile."
    )
    if any(point.residency_from_samples for point in known):
        note += " This server's answers do not tell residency; it was read from samples once a second, so it is rough."
    plot = Plot("Time to first token, cold and warm", figures.cost_of_a_miss(known), Table(headings, tuple(rows)))
    return Section("Cost of a miss", note, (plot,))


def tiers(points: Sequence[PointView]) -> Section | None:
    """Where adapters were found; None where neither answers nor metrics say."""
    rows, found = [], []
    for point in points:
        shares = _shares(point)
        if shares is None:
            continue
        server = point.document["server"] or {}
        loads, seconds = server.get("load_seconds_count", 0.0), server.get("load_seconds_sum", 0.0)
        found.append((point.title, shares))
        rows.append(
            (
                point.title,
                *(f"{share:.1%}" for share in shares),
                f"{server.get('loads', 0):.0f}",
                _ms(seconds / loads if loads else None),
                f"{server.get('evictions', 0):.0f}",
                f"{server.get('preloads_useful', 0):.0f} / {server.get('preloads_wasted', 0):.0f}",
            )
        )
    if not found:
        return None
    figure = figures.stacked_shares(found)
    headings = ("load", "device", "host", "store", "loads", "mean load", "evictions", "preloads useful / wasted")
    note = (
        "Where the adapter of a request was when it came. On the device it answers at once; from host memory it is "
        "copied; from the store it is read from disk first. Loads, evictions and preloads are the server's own counts."
    )
    return Section("Hit rate by tier", note, (Plot("Share of requests by tier", figure, Table(headings, tuple(rows))),))


def details(point: PointView, slo: Slo, *, foldable: bool = False, opened: bool = True) -> Section:
    """One load over its time."""
    ttfts, gaps = point.ttfts(), point.gaps()
    headings = ("", "p50", "p90", "p95", "p99", "largest")
    at = (50, 90, 95, 99, 100)
    first = Table(headings, (("TTFT", *(_ms(value) for value in quantiles(ttfts, at))),))
    between = Table(headings, (("between tokens", *(_ms(value) for value in quantiles(gaps, at))),))
    plots = [
        Plot("Time to first token over time", figures.latency_over_time(point), first),
        Plot("Time between tokens over time", figures.gaps_over_time(point), between),
    ]
    samples = point.document["samples"]
    if any(samples["resident"]):
        shown = min(len(point.document["adapters"]), figures.MOST_ADAPTERS)
        title = f"Residency map: which adapters were on the device ({shown} most asked)"
        plots.append(Plot(title, figures.residency_map(point)))
    if samples["at"]:
        plots.append(Plot("Memory", figures.resources_over_time(point), _memory(samples["memory_bytes"])))
    summary = point.document["summary"]
    goodput = point.goodput(slo.ttft, slo.gap)
    numbers = Table(
        ("requests", "good", "tokens/s", "requests/s", "goodput at the SLO", "adapters asked", "sent late, p99"),
        (
            (
                str(summary["requests"]),
                str(summary["good"]),
                f"{summary['tokens_per_second']:.1f}",
                f"{summary['requests_per_second']:.2f}",
                f"{goodput:.2f} /s",
                str(summary["adapters_used"]),
                _ms(summary["sent_late"]["p99"]),
            ),
        ),
    )
    note = (
        "Dots are requests, lines percentiles of the requests that were scheduled in the same interval. A blue cell of "
        "the map: the adapter was on the device at that second; a cross: a request came and found it missing."
    )
    return Section(f"Over time: {point.title}", note, tuple(plots), (numbers,), foldable, opened)


@dataclass(frozen=True)
class _Measure:
    """A figure of a point, or several of one kind, by name. `relative`: its ratio to the first value matters."""

    title: str
    unit: str
    lines: tuple[tuple[str, Callable[[PointView], float | None]], ...]
    relative: bool = False

    def apart(self) -> tuple["_Measure", ...]:
        """One measure for each of the figures."""
        return tuple(
            _Measure(f"{self.title}, {name}" if name else self.title, self.unit, (("", read),), self.relative)
            for name, read in self.lines
        )


def _measures(slo: Slo) -> list[_Measure]:
    def ttft(at: int) -> tuple[str, Callable[[PointView], float | None]]:
        return f"p{at}", lambda point: _times(quantiles(point.ttfts(), [at])[0], 1e3)

    def gap(at: int) -> tuple[str, Callable[[PointView], float | None]]:
        return f"p{at}", lambda point: _times(quantiles(point.gaps(), [at])[0], 1e3)

    def summed(name: str, factor: float = 1.0) -> tuple[str, Callable[[PointView], float | None]]:
        return "", lambda point: _times(point.document["summary"][name], factor)

    return [
        _Measure("Throughput", "tokens/s", (summed("tokens_per_second"),), relative=True),
        _Measure("Goodput", "requests/s", (("", lambda point: point.goodput(slo.ttft, slo.gap)),), relative=True),
        _Measure("Time to first token", "ms", (ttft(50), ttft(95), ttft(99))),
        _Measure("Time between tokens", "ms", (gap(50), gap(95), gap(99))),
        _Measure("Requests whose adapter was on the device", "%", (summed("device_hit_ratio", 100),)),
    ]


def _compared(
    measure: _Measure, axis: str, labels: Sequence[str], series: Mapping[str, Mapping[str, list[PointView]]]
) -> Plot | None:
    lines = [
        (kind or name, [_median(read(point) for point in by_label.get(label, ())) for label in labels])
        for name, by_label in series.items()
        for kind, read in measure.lines
    ]
    if all(value is None for _, values in lines for value in values):
        return None
    headings, columns = [axis], []
    for name, values in lines:
        headings.append(f"{name}, {measure.unit}" if name else measure.unit)
        columns.append([_number(value) for value in values])
        if measure.relative:
            headings.append("to the first")
            first = values[0]
            columns.append([f"{value / first:.2f}" if value is not None and first else "-" for value in values])
    figure = figures.over_values(labels, lines, measure.unit)
    figure.update_xaxes(title=axis)
    return Plot(measure.title, figure, Table(tuple(headings), tuple(zip(labels, *columns, strict=True))))


def _groups(points: Sequence[PointView]) -> list[list[PointView]]:
    groups: dict[str, list[PointView]] = {}
    for point in points:
        key = str(sorted(point.document["varied"].items())) or point.source
        groups.setdefault(f"{point.source}{key}", []).append(point)
    return list(groups.values())


def _axis(groups: Sequence[Sequence[PointView]]) -> tuple[str, list[str], dict[str, dict[str, list[PointView]]]]:
    """What lies along the horizontal axis, its values, and by series the points of each value."""
    varied = {name: None for group in groups for name in group[0].document["varied"]}
    names = [name for name in _AXES if name in varied] or list(varied)
    series: dict[str, dict[str, list[PointView]]] = {}
    labels: dict[str, None] = {}
    several_files = len({group[0].source for group in groups}) > 1
    for group in groups:
        values = dict(group[0].document["varied"])
        label = str(values.pop(names[0], group[0].source)) if names else group[0].source
        rest = [f"{name.replace('_', ' ')} {value}" for name, value in values.items()]
        if names and several_files:
            rest.append(group[0].source)
        labels[label] = None
        series.setdefault(", ".join(rest), {}).setdefault(label, []).extend(group)
    return (names[0].replace("_", " ") if names else "result"), list(labels), series


def _shares(point: PointView) -> tuple[float, float, float] | None:
    known = [request.residency for request in point.requests if request.residency is not None]
    if not known:
        return None
    device, host, store = (known.count(tier) / len(known) for tier in ("device", "host", "store"))
    return device, host, store


def _memory(readings: Sequence[int | None]) -> Table | None:
    known = [f"{value / 2**20:.0f}" for value in readings if value is not None]
    if not known:
        return None
    largest = max(known, key=int)
    return Table(("MiB", "first", "last", "largest"), (("server's processes", known[0], known[-1], largest),))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _ms(value: Any) -> str:
    return "-" if value is None else f"{value * 1e3:,.0f} ms"
