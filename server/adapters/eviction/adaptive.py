"""Whichever of several policies would do best with the traffic of now.

Long memory is right where popularity stays, and keeps yesterday's favourites where the working set changes at once; LRU
is the other way round. Nobody knows beforehand, but both can be tried: each candidate plays the same requests in a
shadow of the tier, and the one that has missed least lately rules (set duelling, Qureshi et al., ISCA 2007, over whole
policies; LeCaR, HotStorage 2018, has the same two in mind).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.eviction.shadow import Shadow

LATELY = 8
"""A miss counts half after so many requests for each version that the tier holds."""

HYSTERESIS = 0.97
"""Another candidate rules only once its misses are below this share of the ruling one's."""

_FEWEST_VERSIONS = 16
_REMEMBERED = 200_000


class Adaptive:
    """Delegates to the candidate with the fewest decayed misses; all of them hear everything.

    Args:
        candidates: makers of policies; the first rules until there is something to tell them apart.
    """

    def __init__(self, candidates: Sequence[Callable[[], EvictionPolicy]]) -> None:
        self._policies = [make() for make in candidates]
        self._shadows = [Shadow(make()) for make in candidates]
        self._misses = [0.0 for _ in candidates]
        self._ruling = 0
        self._held: dict[str, int] = {}
        self._used = 0
        self._capacity = 0
        self._costs: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def ruling(self) -> int:
        """The index of the candidate that rules now."""
        return self._ruling

    def asked(self, key: str, now: float) -> None:
        """See `EvictionPolicy`."""
        for policy in self._policies:
            policy.asked(key, now)
        kept = 0.5 ** (1 / (LATELY * max(_FEWEST_VERSIONS, len(self._held))))
        cost = self._costs.get(key)
        for index, shadow in enumerate(self._shadows):
            hit = shadow.asked(key, now)
            self._misses[index] = kept * self._misses[index] + (not hit)
            if cost is not None and not hit:
                shadow.take(key, *cost, self._capacity, now)
        best = min(range(len(self._misses)), key=self._misses.__getitem__)
        if self._misses[best] < HYSTERESIS * self._misses[self._ruling]:
            self._ruling = best

    def admitted(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """See `EvictionPolicy`."""
        self._used += size_bytes - self._held.get(key, 0)
        self._held[key] = size_bytes
        # A tier does not tell its size: it is the most that it has held, since a full one stays nearly full.
        self._capacity = max(self._capacity, self._used)
        known = key in self._costs
        self._costs[key] = (size_bytes, reload_seconds)
        self._costs.move_to_end(key)
        if len(self._costs) > _REMEMBERED:
            self._costs.popitem(last=False)
        for policy in self._policies:
            policy.admitted(key, size_bytes, reload_seconds, now)
        if not known:
            for shadow in self._shadows:
                shadow.take(key, size_bytes, reload_seconds, self._capacity, now)

    def removed(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._used -= self._held.pop(key, 0)
        for policy in self._policies:
            policy.removed(key)

    def foretold(self, rates: Mapping[str, float], now: float) -> None:
        """See `EvictionPolicy`."""
        for policy in self._policies:
            policy.foretold(rates, now)
        for shadow in self._shadows:
            shadow.foretold(dict(rates), now)

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """See `EvictionPolicy`."""
        return self._policies[self._ruling].worth(key, size_bytes, reload_seconds, now)

    def coldest(self, now: float) -> Iterator[str]:
        """See `EvictionPolicy`."""
        return self._policies[self._ruling].coldest(now)
