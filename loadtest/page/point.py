"""One point of a result, with what figures need of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from loadtest.report import percentile


@dataclass(frozen=True)
class Request:
    """A request that was answered as it should be. Times in seconds; `cold` is None where nothing says."""

    adapter: int
    scheduled: float
    ttft: float
    seconds: float
    gaps: tuple[float, ...]
    tokens: int
    residency: str | None

    @property
    def cold(self) -> bool | None:
        """Was its adapter missing on the device when it came?"""
        return None if self.residency is None else self.residency != "device"

    def meets(self, ttft: float, gap: float) -> bool:
        """Whether it met an SLO: its first token, and 95 of 100 of its gaps, in at most so many seconds."""
        gaps = sorted(self.gaps)
        return self.ttft <= ttft and (not gaps or percentile(gaps, 95) <= gap)


@dataclass(frozen=True)
class PointView:
    """A point with the file's name and the subject of its result."""

    source: str
    document: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What sets it apart, for people."""
        varied = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.document["varied"].items())
        repeat = f" (repeat {self.document['repeat'] + 1})" if self.document["repeat"] else ""
        return f"{varied or self.source}{repeat}"

    @property
    def wall_seconds(self) -> float:
        """How long the load took."""
        return float(self.document["wall_seconds"])

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """The good requests, in their order."""
        columns = self.document["requests"]
        resident = self._residency()
        return tuple(
            Request(adapter, scheduled, ttft, seconds, tuple(gaps), tokens, residency)
            for adapter, scheduled, ttft, seconds, gaps, tokens, residency, problem in zip(
                *(columns[name] for name in ("adapter", "scheduled", "ttft", "seconds", "gaps", "tokens")),
                resident,
                columns["problem"],
                strict=True,
            )
            if problem is None
        )

    @property
    def residency_from_samples(self) -> bool:
        """Whether only the samples tell which requests were cold: to the second, not to the request."""
        return not any(self.document["requests"]["residency"]) and bool(self.document["samples"]["at"])

    def ttfts(self, *, cold: bool | None = None) -> list[float]:
        """Sorted times to the first token; of the cold or of the warm ones where that is asked."""
        return sorted(request.ttft for request in self.requests if cold is None or request.cold is cold)

    def gaps(self) -> list[float]:
        """Sorted times between tokens."""
        return sorted(gap for request in self.requests for gap in request.gaps)

    def goodput(self, ttft: float, gap: float) -> float:
        """Requests a second that met an SLO."""
        return sum(request.meets(ttft, gap) for request in self.requests) / self.wall_seconds

    def _residency(self) -> list[str | None]:
        columns = self.document["requests"]
        if not self.residency_from_samples:
            return list(columns["residency"])
        samples = self.document["samples"]
        looks = list(zip(samples["at"], (set(names) for names in samples["resident"]), strict=True))
        found: list[str | None] = []
        for adapter, sent in zip(columns["adapter"], columns["sent"], strict=True):
            held = [names for at, names in looks if at <= sent]
            found.append("device" if held and adapter in held[-1] else "store")
        return found


def quantiles(ordered: list[float], at: Iterable[float]) -> list[float | None]:
    """Percentiles of a sorted sample; None where it is empty."""
    return [percentile(ordered, one) if ordered else None for one in at]


def over_time(pairs: Iterable[tuple[float, float]], width: float, at: float) -> tuple[list[float], list[float]]:
    """The middle of each interval of `width` seconds that has values, and their percentile."""
    bins: dict[int, list[float]] = {}
    for time, value in pairs:
        bins.setdefault(int(time / width), []).append(value)
    numbers = sorted(bins)
    return [(number + 0.5) * width for number in numbers], [percentile(sorted(bins[n]), at) for n in numbers]


def token_times(request: Request) -> list[tuple[float, float]]:
    """When each gap of a request ended, and its length."""
    time = request.scheduled + request.ttft
    found = []
    for gap in request.gaps:
        time += gap
        found.append((time, gap))
    return found
