"""Least recently used: the baseline that every other policy is compared with."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from server.adapters.eviction.ranking import Ranking

_REMEMBERED = 200_000


class LeastRecentlyUsed:
    """Worth is the time of the last request. Predictions and costs are ignored: nothing cold is worth a place."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, float] = OrderedDict()  # of what is not held; the longest ago first
        self._held = Ranking()

    def asked(self, key: str, now: float) -> None:
        """See `EvictionPolicy`."""
        if key in self._held:
            self._held.set(key, now)
        else:
            self._asked[key] = now
            self._asked.move_to_end(key)
            if len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)

    def admitted(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """See `EvictionPolicy`."""
        self._held.set(key, self._asked.pop(key, now))

    def removed(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._held.discard(key)

    def foretold(self, rates: Mapping[str, float], now: float) -> None:
        """See `EvictionPolicy`."""

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """See `EvictionPolicy`."""
        return self._held.score(key) if key in self._held else self._asked.get(key, -math.inf)

    def coldest(self, now: float) -> Iterator[str]:
        """See `EvictionPolicy`."""
        return self._held.ascending()
