"""Policies that weigh how often a version is asked for: LFU, cost-aware and predicted are one rule.

The worth of a version is the logarithm of

    rate * reload_seconds / size_bytes

which is the waiting that a byte of its place saves in a second (GreedyDual-Size-Frequency, Cherkasova 1998, with a
decayed rate in the place of its clock).

Rates decay with the requests, not with the time: a request counts half after some requests for each version that the
tier holds (as the sample of TinyLFU does, Einziger 2017). So a policy decides the same for the same requests, however
fast they come, and remembers longer where there is more to remember. A fixed half-life suits one rate of requests
only: if it is much shorter than a version's usual gap, this is LRU; if much longer, yesterday's favourites stay.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.adapters.eviction.decayed_rates import DecayedRates
from server.adapters.eviction.ranking import Ranking
from server.adapters.eviction.request_pace import RequestPace

REQUESTS_PER_VERSION = 10
"""A request counts half after so many requests for each version that the tier holds. Less is LRU by and by; this much
is right for popularities that stay or drift, and keeps yesterday's favourites where the working set changes at once
(6 times LRU's misses): `Adaptive` has LRU rule there."""

DISCOUNT = 1.0
"""A foretold rate counts half (in powers of two). A forecast lags behind requests: taken in full it keeps what has just
gone out of use, and a version that is as hot as foretold shows so by its own requests soon."""

FEWEST_VERSIONS = 16
"""A tier that holds fewer remembers as if it held so many."""


@dataclass(frozen=True)
class _Cost:
    size_bytes: int
    reload_seconds: float


class Rated:
    """Ranks by decayed request rates.

    Args:
        cost_aware: weigh reload time and size as well; without it this is LFU with ageing.
        predicted: take half a foretold rate where that is higher than the observed one.
        requests_per_version: a request counts half after so many requests for each version that the tier holds.
    """

    def __init__(
        self, *, cost_aware: bool, predicted: bool, requests_per_version: float = REQUESTS_PER_VERSION
    ) -> None:
        self._cost_aware = cost_aware
        self._predicted = predicted
        self._requests_per_version = requests_per_version
        self._age = 0.0
        """In half-lives; what `DecayedRates` takes for the time."""
        self._rates = DecayedRates(half_life=1.0)
        self._pace = RequestPace()
        self._foretold: dict[str, float] = {}
        self._costs: dict[str, _Cost] = {}
        self._held = Ranking()

    def asked(self, key: str, now: float) -> None:
        """See `EvictionPolicy`."""
        self._age += 1 / self._half_life
        self._pace.asked()
        self._rates.hit(key, self._age)
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
        per_half_life = self._half_life / max(self._pace.rate(now, at_least=sum(rates.values())), 1e-9)
        self._foretold = {
            key: self._rates.level_of(rate * per_half_life, self._age) for key, rate in rates.items() if rate > 0
        }
        for key in (before.keys() | self._foretold.keys()) & self._costs.keys():
            self._rank(key)

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """See `EvictionPolicy`."""
        return self._worth(key, _Cost(size_bytes, reload_seconds))

    def coldest(self, now: float) -> Iterator[str]:
        """See `EvictionPolicy`."""
        return self._held.ascending()

    @property
    def _half_life(self) -> float:
        """In requests."""
        return self._requests_per_version * max(FEWEST_VERSIONS, len(self._costs))

    def _rank(self, key: str) -> None:
        cost = self._costs.get(key)
        if cost is not None:
            self._held.set(key, self._worth(key, cost))

    def _worth(self, key: str, cost: _Cost) -> float:
        level = max(self._rates.level(key), self._foretold.get(key, -math.inf) - DISCOUNT)
        if self._cost_aware:
            level += math.log2(max(cost.reload_seconds, 1e-6) / max(cost.size_bytes, 1))
        return level
