"""How often each key was asked for lately: counts that halve with every half-life."""

import math

_REMEMBERED = 200_000


class DecayedRates:
    """Exponentially decayed request counts.

    All counts decay by the same factor, so their order changes only when a key is asked for: `level`, the logarithm of
    the count projected back to time 0, is a score that needs no update as time passes.
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self._levels: dict[str, float] = {}

    def hit(self, key: str, now: float) -> float:
        """Count one request; returns the key's new level."""
        fresh = now / self.half_life
        known = self._levels.pop(key, None)
        # log2(2**known + 2**fresh), without leaving the range of floats.
        level = fresh if known is None else max(known, fresh) + math.log2(1 + 2 ** -min(1000.0, abs(known - fresh)))
        self._levels[key] = level
        if len(self._levels) > _REMEMBERED:
            del self._levels[next(iter(self._levels))]
        return level

    def level(self, key: str) -> float:
        """The score of a key; minus infinity for one that was never asked for, or is forgotten."""
        return self._levels.get(key, -math.inf)

    def rate(self, key: str, now: float) -> float:
        """Requests a second."""
        return self.rate_of(self.level(key), now)

    def rate_of(self, level: float, now: float) -> float:
        """Requests a second of a key with this level."""
        exponent = level - now / self.half_life
        return 0.0 if exponent < -1000 else math.log(2) / self.half_life * 2.0**exponent

    def level_of(self, rate: float, now: float) -> float:
        """The level of a key that is asked for `rate` times a second."""
        if rate <= 0:
            return -math.inf
        return math.log2(rate * self.half_life / math.log(2)) + now / self.half_life
