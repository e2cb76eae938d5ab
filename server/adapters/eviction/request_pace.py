"""How many requests come in a second, to compare what was counted with what is foretold."""


class RequestPace:
    """Counts requests between forecasts; those of earlier forecasts count half each time."""

    def __init__(self) -> None:
        self._requests = 0.0
        self._seconds = 0.0
        self._since: float | None = None

    def asked(self) -> None:
        """One request came."""
        self._requests += 1

    def rate(self, now: float, *, at_least: float) -> float:
        """Requests a second; `at_least` is the sum of rates that were foretold, which alone is known at first."""
        if self._since is None:
            self._since, self._requests = now, 0.0
            return at_least
        self._seconds += now - self._since
        self._since = now
        rate = self._requests / self._seconds if self._seconds > 0 else 0.0
        self._requests /= 2
        self._seconds /= 2
        return max(rate, at_least)
