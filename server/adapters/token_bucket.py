"""A budget of bytes per second."""

import time
from collections.abc import Callable


class TokenBucket:
    """Fills at `bytes_per_second` (0: without limit), up to one second's worth.

    What is spent is known only afterwards: spending may leave a debt, and nothing more may begin until that is paid.
    """

    def __init__(self, bytes_per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._balance = float(bytes_per_second)
        self._at = clock()

    def wait(self) -> float:
        """Seconds until something may begin; 0 means now."""
        if not self._rate:
            return 0.0
        self._fill()
        return max(0.0, -self._balance / self._rate)

    def spend(self, size_bytes: int) -> None:
        """Take what was used."""
        if self._rate:
            self._fill()
            self._balance -= size_bytes

    def _fill(self) -> None:
        now = self._clock()
        self._balance = min(float(self._rate), self._balance + self._rate * (now - self._at))
        self._at = now
