"""The offline optimum: evict what is asked for farthest in the future."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from server.adapters.eviction.ranking import Ranking


def next_asks(keys: Sequence[str]) -> list[float]:
    """For each position, the position at which its key is asked for next; infinity where it never is."""
    later: dict[str, int] = {}
    found = [math.inf] * len(keys)
    for position in range(len(keys) - 1, -1, -1):
        found[position] = later.get(keys[position], math.inf)
        later[keys[position]] = position
    return found


def first_asks(keys: Iterable[str]) -> dict[str, float]:
    """The position at which each key is asked for first."""
    found: dict[str, float] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, position)
    return found


class Belady:
    """Belady's MIN behind the interface of the policies; it must hear of every request of its trace, in order.

    For keys of equal size that are loaded on demand, without time passing, no policy has more hits. For unequal sizes
    the best choice is NP-hard, and this one ("farthest first, until the bytes suffice") is a strong heuristic: a policy
    that keeps many small keys in the place of a large one may have more hits. Preloading may have more hits as well,
    since MIN loads a key only when it is asked for.

    Args:
        following: `next_asks` of the trace's keys; only read, so that several tiers can share it.
        first: `first_asks` of the trace's keys.
    """

    def __init__(self, following: Sequence[float], first: Mapping[str, float]) -> None:
        self._following = following
        self._next = dict(first)
        self._position = 0
        self._held = Ranking()

    def asked(self, key: str, now: float) -> None:
        """See `EvictionPolicy`.

        Raises:
            ValueError: the trace has another request here.
        """
        if self._next.get(key) != self._position:
            raise ValueError(f"request {self._position} of the trace is not for {key!r}")
        self._next[key] = self._following[self._position]
        self._position += 1
        if key in self._held:
            self._held.set(key, -self._next[key])

    def admitted(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """See `EvictionPolicy`."""
        self._held.set(key, -self._next[key])

    def removed(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._held.discard(key)

    def foretold(self, rates: Mapping[str, float], now: float) -> None:
        """See `EvictionPolicy`: it knows better."""

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """See `EvictionPolicy`."""
        return -self._next.get(key, math.inf)

    def coldest(self, now: float) -> Iterator[str]:
        """See `EvictionPolicy`."""
        return self._held.ascending()
