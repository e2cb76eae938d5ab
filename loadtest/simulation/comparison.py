"""A simulation held against what a real server did: the same requests, at the times at which they were sent."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    """One load of a real server: its requests, and the rise of the server's counters.

    Args:
        arrivals: the warm-up, where the result has it, and the measured requests.
        measured_from: seconds from the first of all to the first that is measured; the counters rise from there.
        ranks: of the adapters whose rank the result knows.
        largest_rank: of all that were published, asked or not.
    """

    arrivals: tuple[Arrival, ...]
    counters: Mapping[str, float]
    measured_from: float = 0.0
    ranks: Mapping[str, int] = field(default_factory=dict)
    largest_rank: int | None = None

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
        warm_up, measured = list(_warm_up(chosen)), list(_measured(chosen))
        ranks, largest_rank = dict(_ranks(chosen)), chosen.get("largest_rank")
        began = min(measured)[0] if measured else 0.0
        arrivals = tuple(_from_zero([*sorted(warm_up), *sorted(measured)]))
    except (ValueError, LookupError, TypeError) as error:
        raise ComparisonError(f"{path}: point {point} is no measured load of `loadtest run`: {error!r}") from error
    if not chosen.get("valid"):
        raise ComparisonError(f"{path}: point {point} has failures, so it is no result")
    if not counters:
        raise ComparisonError(f"{path}: point {point} has no counters of the server: could its /metrics be read?")
    first = min((sent for sent, *_ in warm_up), default=began)
    return RealRun(arrivals, counters, began - first, ranks, largest_rank)


_Sent = tuple[float, str, int, int]
"""When, the adapter, and the tokens of prompt and answer."""


def _measured(point: Mapping[str, Any]) -> Iterator[_Sent]:
    columns, names = point["requests"], point["adapters"]
    rows = zip(columns["sent"], columns["adapter"], columns["prompt_tokens"], columns["tokens"], strict=True)
    return ((sent, names[adapter], prompt_tokens, tokens) for sent, adapter, prompt_tokens, tokens in rows)


def _warm_up(point: Mapping[str, Any]) -> Iterator[_Sent]:
    columns = point.get("warm_up")
    if columns is None:
        return iter(())
    return zip(*(columns[name] for name in ("sent", "adapter", "prompt_tokens", "tokens")), strict=True)


def _ranks(point: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    warm_up = point.get("warm_up") or {"adapter": (), "rank": ()}
    named = zip(point["adapters"], point.get("ranks") or [None] * len(point["adapters"]), strict=True)
    for name, rank in (*named, *zip(warm_up["adapter"], warm_up["rank"], strict=True)):
        if rank is not None:
            yield name, rank


def _from_zero(sent: Sequence[_Sent]) -> Iterator[Arrival]:
    first = sent[0][0] if sent else 0.0
    for at, adapter, prompt_tokens, tokens in sent:
        yield Arrival(at - first, adapter, prompt_tokens, tokens)
