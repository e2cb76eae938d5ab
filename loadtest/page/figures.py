"""The plots of the page. Times are shown in milliseconds, since that is what they are."""

from collections.abc import Sequence

import plotly.graph_objects as go

from loadtest.page.point import PointView, over_time, token_times

BLUE, ORANGE, GREEN, GREY, RED, VIOLET = "#2f6fb2", "#d9822b", "#3a9a5b", "#9aa3ad", "#c23b3b", "#7b5ea7"
_PERCENTILES = ((50, BLUE), (95, ORANGE), (99, RED))
_BINS = 40
MOST_ADAPTERS = 80
_LOG = {
    "type": "log",
    "tickmode": "array",
    "tickvals": [step * 10**power for power in range(7) for step in (1, 2, 5)],
    "tickformat": ",d",
}


def latency_over_time(point: PointView) -> go.Figure:
    """TTFT of each request, and percentiles of TTFT over the time of the load."""
    requests = point.requests
    figure = _figure("seconds from the start (scheduled time of the request)", "time to first token, ms")
    for cold, name, colour in ((False, "warm request", GREEN), (True, "cold request", VIOLET), (None, "request", GREY)):
        chosen = [request for request in requests if request.cold is cold]
        if chosen:
            figure.add_scatter(
                x=[r.scheduled for r in chosen],
                y=[r.ttft * 1e3 for r in chosen],
                mode="markers",
                name=name,
                marker={"color": colour, "size": 5, "opacity": 0.45},
            )
    width = max(point.wall_seconds / _BINS, 1.0)
    for at, colour in _PERCENTILES[:2]:
        times, values = over_time(((r.scheduled, r.ttft) for r in requests), width, at)
        figure.add_scatter(x=times, y=_ms(values), mode="lines", name=f"p{at}", line={"color": colour, "width": 2})
    figure.update_yaxes(_LOG)
    return figure


def gaps_over_time(point: PointView) -> go.Figure:
    """Percentiles of the time between tokens over the time of the load."""
    figure = _figure("seconds from the start", "time between tokens, ms")
    pairs = [pair for request in point.requests for pair in token_times(request)]
    width = max(point.wall_seconds / _BINS, 1.0)
    for at, colour in _PERCENTILES:
        times, values = over_time(pairs, width, at)
        figure.add_scatter(x=times, y=_ms(values), mode="lines", name=f"p{at}", line={"color": colour, "width": 2})
    figure.update_yaxes(rangemode="tozero")
    return figure


def cost_of_a_miss(points: Sequence[PointView]) -> go.Figure:
    """Distribution of the TTFT of warm and of cold requests, one above the other, cumulated."""
    figure = _figure("time to first token, ms", "share of requests at most as slow, %")
    for cold, name, colour in ((False, "warm: adapter on the device", GREEN), (True, "cold: had to be loaded", VIOLET)):
        values = sorted(value for point in points for value in point.ttfts(cold=cold))
        if values:
            shares = [100 * (index + 1) / len(values) for index in range(len(values))]
            line = {"color": colour, "width": 2, "shape": "hv"}
            figure.add_scatter(x=_ms(values), y=shares, mode="lines", name=f"{name} ({len(values)})", line=line)
    figure.update_xaxes(_LOG)
    figure.update_yaxes(range=[0, 101])
    return figure


def residency_map(point: PointView) -> go.Figure:
    """Which adapters were on the device at each second, the most often asked at the top."""
    names, samples = point.document["adapters"], point.document["samples"]
    asked = [0] * len(names)
    for adapter in point.document["requests"]["adapter"]:
        asked[adapter] += 1
    shown = sorted(range(len(names)), key=lambda index: -asked[index])[:MOST_ADAPTERS]
    held = [set(resident) for resident in samples["resident"]]
    cells = [[1 if adapter in look else 0 for look in held] for adapter in shown]
    labels = [f"{names[adapter]} ({asked[adapter]}x)" for adapter in shown]
    figure = _figure("seconds from the start", "adapter (requests)", height=max(320, 120 + 13 * len(shown)))
    colours = [[0, "#eef1f4"], [1, BLUE]]
    figure.add_heatmap(x=samples["at"], y=labels, z=cells, colorscale=colours, zmin=0, zmax=1, showscale=False, ygap=1)
    cold = [request for request in point.requests if request.cold and request.adapter in set(shown)]
    position = dict(zip(shown, labels, strict=True))
    figure.add_scatter(
        x=[request.scheduled for request in cold],
        y=[position[request.adapter] for request in cold],
        mode="markers",
        name="cold request",
        marker={"color": ORANGE, "size": 6, "symbol": "x"},
    )
    figure.update_yaxes(autorange="reversed", tickfont={"size": 9}, type="category", dtick=1)
    return figure


def resources_over_time(point: PointView) -> go.Figure:
    """Bytes of adapters on the device and of the server's processes."""
    samples = point.document["samples"]
    figure = _figure("seconds from the start", "MiB")
    for name, title, colour, dash in (
        ("memory_bytes", "server's processes, main memory", GREY, "solid"),
        ("adapter_bytes", "adapters on the device", BLUE, "solid"),
        ("adapter_budget_bytes", "budget of the device", BLUE, "dot"),
        ("adapter_host_bytes", "adapters in host memory", VIOLET, "solid"),
        ("adapter_host_budget_bytes", "budget of host memory", VIOLET, "dot"),
    ):
        values = samples.get(name) or []
        if any(value is not None for value in values):
            shown = [None if value is None else value / 2**20 for value in values]
            line = {"color": colour, "dash": dash}
            figure.add_scatter(x=samples["at"], y=shown, mode="lines", name=title, line=line)
    figure.update_yaxes(rangemode="tozero")
    return figure


def over_values(labels: Sequence[str], lines: Sequence[tuple[str, Sequence[float | None]]], y: str) -> go.Figure:
    """One line for each series over the values of what was varied."""
    figure = _figure("", y)
    for (name, values), colour in zip(lines, (BLUE, ORANGE, RED, GREEN, VIOLET, GREY) * 4, strict=False):
        figure.add_scatter(
            x=list(labels), y=list(values), mode="lines+markers", name=name, line={"color": colour, "width": 2}
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def bars_side_by_side(labels: Sequence[str], bars: Sequence[tuple[str, Sequence[float | None]]], y: str) -> go.Figure:
    """For each label one bar of each kind."""
    figure = _figure("", y)
    for (name, heights), colour in zip(bars, (BLUE, ORANGE, GREEN, VIOLET), strict=False):
        figure.add_bar(x=list(labels), y=list(heights), name=name, marker={"color": colour})
    figure.update_xaxes(type="category")
    return figure


def stacked_shares(shares: Sequence[tuple[str, tuple[float, float, float]]]) -> go.Figure:
    """For each load, the shares of requests whose adapter was on the device, in host memory, and in the store."""
    figure = _figure("", "share of requests, %")
    for index, (tier, colour) in enumerate((("device", GREEN), ("host", BLUE), ("store", VIOLET))):
        heights = [100 * found[index] for _, found in shares]
        figure.add_bar(x=[title for title, _ in shares], y=heights, name=tier, marker={"color": colour})
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[0, 101])
    return figure


def _ms(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else value * 1e3 for value in values]


def _figure(x: str, y: str, height: int = 360) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 16, "b": 50},
        xaxis_title=x,
        yaxis_title=y,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return figure
