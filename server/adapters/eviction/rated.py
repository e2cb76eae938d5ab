"""Policies that weigh how often a version is asked for: LFU, cost-aware and predicted are one rule.

The worth of a version is the logarithm of

    rate * reload_seconds / size_bytes

which is the waiting that a byte of its place saves in a second (GreedyDual-Size-Frequency, Cherkasova 1998, with a
decayed rate in the place of its clock).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.adapters.eviction.decayed_rates import DecayedRates
from server.adapters.eviction.ranking import Ranking

HALF_LIFE_SECONDS = 60.0
"""After how long a request counts half."""


@dataclass(frozen=True)
class _Cost:
    size_bytes: int
    reload_seconds: float


class Rated:
    """Ranks by decayed request rates.

    Args:
        cost_aware: weigh reload time and size as well; without it this is LFU with ageing.
        predicted: take a foretold rate where it is higher than the observed one.
        half_life: seconds after which a request counts half.
    """

    def __init__(self, *, cost_aware: bool, predicted: bool, half_life: float = HALF_LIFE_SECONDS) -> None:
        self._cost_aware = cost_aware
        self._predicted = predicted
        self._rates = DecayedRates(half_life)
        self._foretold: dict[str, float] = {}
        self._costs: dict[str, _Cost] = {}
        self._held = Ranking()

    def asked(self, key: str, now: float) -> None:
        """See `EvictionPolicy`."""
        self._rates.hit(key, now)
        self._rank(key)

    def admitted(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """See `EvictionPolicy`."""
        self._costs[key] = _Cost(size_bytes, reload_seconds)
        self._rank(key)

    def removed(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._costs.pop(key, None)
        self._held.discard(key)

    def foretold(self, rates: Mapping[str, float], now: float) -> None:
        """See `EvictionPolicy`."""
        if not self._predicted:
            return
        before = self._foretold
        self._foretold = {key: self._rates.level_of(rate, now) for key, rate in rates.items() if rate > 0}
        for key in (before.keys() | self._foretold.keys()) & self._costs.keys():
            self._rank(key)

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """See `EvictionPolicy`."""
        return self._worth(key, _Cost(size_bytes, reload_seconds))

    def coldest(self, now: float) -> Iterator[str]:
        """See `EvictionPolicy`."""
        return self._held.ascending()

    def _rank(self, key: str) -> None:
        cost = self._costs.get(key)
        if cost is not None:
            self._held.set(key, self._worth(key, cost))

    def _worth(self, key: str, cost: _Cost) -> float:
        level = max(self._rates.level(key), self._foretold.get(key, -math.inf))
        if self._cost_aware:
            level += math.log2(max(cost.reload_seconds, 1e-6) / max(cost.size_bytes, 1))
        return level
