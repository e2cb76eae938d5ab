"""Time that passes only from event to event."""

import heapq
from collections.abc import Callable
from typing import Any, TypeVar

_Argument = TypeVar("_Argument")


class VirtualClock:
    """Runs actions in the order of their times; those of one time in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._count = 0

    def after(self, seconds: float, action: Callable[[_Argument], None], argument: _Argument) -> None:
        """Call `action(argument)` in so many seconds."""
        self._count += 1
        heapq.heappush(self._planned, (self.now + seconds, self._count, action, argument))

    def advance(self, until: float) -> None:
        """Run everything that is planned up to this time, this time included."""
        planned = self._planned
        while planned and planned[0][0] <= until:
            self.now, _, action, argument = heapq.heappop(planned)
            action(argument)
        self.now = until

    def drain(self) -> None:
        """Run everything that is planned, and what that plans."""
        while self._planned:
            self.advance(self._planned[0][0])
