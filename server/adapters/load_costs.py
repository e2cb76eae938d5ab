"""How long a load takes, learnt from those that were measured."""

from server.engine.messages import Tier

_FIXED_SECONDS = 0.002
_GUESSED_BYTES_PER_SECOND = {"store": 400e6, "host": 4e9}
_WEIGHT = 0.1
"""Of the newest load in the running average."""


class LoadCosts:
    """Expected seconds of a load by its source: a fixed part, and one by bytes on the device."""

    def __init__(self) -> None:
        self._seconds_per_byte = {tier: 1 / speed for tier, speed in _GUESSED_BYTES_PER_SECOND.items()}

    def expected(self, source: Tier, size_bytes: int) -> float:
        """Seconds that a load of so many bytes should take."""
        return _FIXED_SECONDS + size_bytes * self._seconds_per_byte[source]

    def measured(self, source: Tier, size_bytes: int, seconds: float) -> None:
        """A load took so long."""
        if size_bytes:
            known = self._seconds_per_byte[source]
            found = max(0.0, seconds - _FIXED_SECONDS) / size_bytes
            self._seconds_per_byte[source] = (1 - _WEIGHT) * known + _WEIGHT * found
