"""A simulation held against what a real server did: the same requests, at the times at which they were sent."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.simulation.outcome import Outcome
from loadtest.trace import Arrival


class ComparisonError(ValueError):
    """A result cannot be compared with; the message says why."""


@dataclass(frozen=True)
class Figure:
    """One figure, as measured and as simulated."""

    name: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Simulated less measured: of a rate in its own unit, of a count as a share of what was measured."""
        difference = self.simulated - self.measured
        return difference if self.name.endswith("rate") else difference / max(self.measured, 1.0)


@dataclass(frozen=True)
class RealRun:
    """One load of a real server: its requests, and the rise of the server's counters."""

    arrivals: tuple[Arrival, ...]
    counters: Mapping[str, float]

    def compared(self, outcome: Outcome) -> tuple[Figure, ...]:
        """Hit rates, and how often the server loaded and evicted; counts that the server does not have are left out."""
        found = []
        for tier, hits, misses, simulated in (
            ("device", "device_hits", "device_misses", outcome.device_hit_rate),
            ("host", "host_hits", "host_misses", outcome.host_hit_rate),
        ):
            lookups = self.counters.get(hits, 0) + self.counters.get(misses, 0)
            if lookups:
                found.append(Figure(f"{tier} hit rate", self.counters[hits] / lookups, simulated))
        loads = outcome.loads_from_host + outcome.loads_from_store
        for name, count in (("loads", loads), ("evictions", outcome.evictions)):
            if name in self.counters:
                found.append(Figure(name, self.counters[name], count))
        return tuple(found)


def real_run(path: Path, point: int = 0) -> RealRun:
    """One point of a result of `loadtest run` or `sweep`.

    Raises:
        ComparisonError: the file is no such result, lacks the point or its counters, or the point has failures.
        OSError: it cannot be read.
    """
    try:
        points = json.loads(path.read_text())["points"]
        chosen: Mapping[str, Any] = points[point]
        counters = chosen["server"]
        arrivals = tuple(_arrivals(chosen))
    except (ValueError, LookupError, TypeError) as error:
        raise ComparisonError(f"{path}: point {point} is no measured load of `loadtest run`: {error!r}") from error
    if not chosen.get("valid"):
        raise ComparisonError(f"{path}: point {point} has failures, so it is no result")
    if not counters:
        raise ComparisonError(f"{path}: point {point} has no counters of the server: could its /metrics be read?")
    return RealRun(arrivals, counters)


def _arrivals(point: Mapping[str, Any]) -> Iterator[Arrival]:
    columns, names = point["requests"], point["adapters"]
    rows = zip(columns["sent"], columns["adapter"], columns["prompt_tokens"], columns["tokens"], strict=True)
    first = min(columns["sent"], default=0.0)
    for sent, adapter, prompt_tokens, tokens in sorted(rows):
        yield Arrival(sent - first, names[adapter], prompt_tokens, tokens)
