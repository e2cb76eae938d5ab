"""How the dashboard asks for rates, means and percentiles; `tests.deployment.grafana.Query` tells what `@` is."""

from collections.abc import Sequence

from tests.deployment.grafana import Query

_RATE = "[$__rate_interval]"


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """A counter's increase a second, summed over all series or `by` a label."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{@{labels}}}{_RATE}))"


def grown(metric: str, by: str, window: str, labels: str = "") -> str:
    """What a counter came to in a window, summed `by` a label.

    A series begins with its first count, which `increase` does not see: one that was not there before the window has
    grown by all that it has.
    """
    series = f"{metric}{{@{labels}}}"
    return f"sum by ({by}) (({series} unless {series} offset {window}) or increase({series}[{window}]))"


def mean(histogram: str) -> str:
    return f"{rate(f'{histogram}_sum')} / {rate(f'{histogram}_count')}"


def percentiles(
    histogram: str, *, by: str = "", shares: Sequence[float] = (0.5, 0.9, 0.99), prefix: str = ""
) -> tuple[Query, ...]:
    grouping = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else prefix
    return tuple(
        Query(f"histogram_quantile({share}, {rate(f'{histogram}_bucket', grouping)})", f"{legend}p{share * 100:g}")
        for share in shares
    )
