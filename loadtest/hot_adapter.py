"""One adapter that is asked far more than its share, and what the others feel of it."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

from loadtest.report import Distribution
from loadtest.trace import Arrival
from loadtest.workloads.arrival_times import Poisson
from loadtest.workloads.lengths import Lengths
from loadtest.workloads.popularity import Zipf
from loadtest.workloads.traffic import Traffic


@dataclass(frozen=True)
class HotAdapter:
    """Adapters that are asked evenly, `rate` times a second together, and the first of them `factor` times its share.

    The requests of the others, and the first one's share, are the same at every factor: what differs is what the hot
    adapter gets on top.
    """

    names: tuple[str, ...]
    rate: float
    factor: float
    prompt_tokens: Lengths
    output_tokens: Lengths
    seed: int

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise ValueError("publish: fairness needs at least two adapters")
        if self.factor < 1:
            raise ValueError("hot: the hot adapter is asked at least its share, 1")

    @property
    def hot(self) -> str:
        """The adapter that is asked more."""
        return self.names[0]

    def arrivals(self, seconds: float) -> Iterator[Arrival]:
        """All arrivals before `seconds`, in order of time."""
        even = self._traffic(self.names, self.rate, self.seed).arrivals(seconds=seconds)
        if self.factor == 1:
            return even
        extra = self.rate / len(self.names) * (self.factor - 1)
        more = self._traffic((self.hot,), extra, self.seed + 1).arrivals(seconds=seconds)
        order = count()
        merged = heapq.merge(*(((a.at, next(order), a) for a in part) for part in (even, more)))
        return (arrival for _, _, arrival in merged)

    def _traffic(self, names: tuple[str, ...], rate: float, seed: int) -> Traffic:
        return Traffic(names, Zipf(len(names), 0.0), Poisson(rate), self.prompt_tokens, self.output_tokens, seed=seed)


def felt_by_others(points: Sequence[Mapping[str, Any]], hot: str) -> list[dict[str, Any]]:
    """For each setting of the server, the p95 time to the first token of the good requests for other adapters.

    A row has the medians over the repeats without and with the hot adapter, and the median of the repeats' own ratios,
    None where no repeat has both. `points` are those of a result, varied by `fairness` and `hot`; the first value of
    `hot` is the one without. A row is valid where all its points are: else it is no result.
    """
    found: dict[str, dict[int, dict[float, float]]] = {}
    invalid: dict[str, None] = {}
    for point in points:
        varied = point["varied"]
        if not point["valid"]:
            invalid[varied["fairness"]] = None
        index = point["adapters"].index(hot) if hot in point["adapters"] else None
        requests = point["requests"]
        columns = zip(requests["adapter"], requests["ttft"], requests["problem"], strict=True)
        others = [ttft for adapter, ttft, problem in columns if adapter != index and problem is None]
        p95 = Distribution.of(others).p95
        if p95 is not None:
            found.setdefault(varied["fairness"], {}).setdefault(point["repeat"], {})[varied["hot"]] = p95
    rows = []
    for setting in dict.fromkeys((*found, *invalid)):
        repeats = found.get(setting, {}).values()
        pairs = [(each[min(each)], each[max(each)]) for each in repeats if len(each) == 2]
        if not pairs and setting not in invalid:
            continue
        rows.append(
            {
                "fairness": setting,
                "valid": setting not in invalid,
                "p95_without": median(without for without, _ in pairs) if pairs else None,
                "p95_with": median(beside for _, beside in pairs) if pairs else None,
                "ratio": median(beside / without for without, beside in pairs) if pairs else None,
                "repeats": len(pairs),
            }
        )
    return rows
