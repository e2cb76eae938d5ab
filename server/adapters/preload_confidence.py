"""How far forecasts have turned out to be worth following."""

import math

from server.adapters.preload_choice import MARGIN

LEAST_MARGIN = math.log2(1.25)
"""However well preloads do, near equals must not swap."""

_NEWEST = 0.05
_LEAST_SHARE = 1 / 256


class PreloadConfidence:
    """The share of the latest preloads that were useful, and what it asks of the next one.

    A preload of which one in five has been useful lately must be worth five times what makes place for it: where a
    forecast says less than chance, preloading ends nearly by itself, and where it is right it goes on.
    """

    def __init__(self) -> None:
        self.share = 2.0**-MARGIN

    @property
    def margin(self) -> float:
        """How much more a preload must be worth than its victims, as a power of two."""
        return max(LEAST_MARGIN, -math.log2(max(self.share, _LEAST_SHARE)))

    def ended(self, *, useful: bool) -> None:
        """A preload ended."""
        self.share += _NEWEST * (useful - self.share)
