"""The same-adapter window: how long a busy engine holds the first requests of a group for company."""

from collections import OrderedDict
from typing import Literal

from server.engine.waiting import AdapterQueue

WindowMode = Literal["fixed", "adaptive"]

LONGEST = 0.050
"""No window is longer, in seconds."""

SHORTEST = 0.010
"""An adaptive window that is worth opening is at least so long, in seconds."""

_NEWEST = 0.25
_REMEMBERED = 4096


class Window:
    """Decides whether a group is held back in the step that begins now.

    A fixed window has one length. An adaptive one lasts until the adapter's next request is expected, by the mean time
    between its last ones, and is open only while waiting for it costs the group less than what joining saves: the time
    of those that wait, together, against one step. An adapter whose requests come further apart has none.
    """

    def __init__(self, mode: WindowMode, seconds: float) -> None:
        self._mode = mode
        self._seconds = seconds
        self._arrivals: OrderedDict[str | None, tuple[float, float | None]] = OrderedDict()

    def arrived(self, digest: str | None, now: float) -> None:
        """A request for an adapter version, or for the base, has come."""
        if self._mode == "fixed":
            return
        last, mean = self._arrivals.pop(digest, (None, None))
        if last is not None:
            gap = now - last
            mean = gap if mean is None else mean + _NEWEST * (gap - mean)
        self._arrivals[digest] = (now, mean)
        if len(self._arrivals) > _REMEMBERED:
            self._arrivals.popitem(last=False)

    def length(self, queue: AdapterQueue, now: float, step_seconds: float) -> float:
        """Seconds from a group's opening for which it may be held; 0 where nobody is expected to join in time."""
        if self._mode == "fixed":
            return self._seconds
        last, gap = self._arrivals.get(queue.digest, (now, None))
        if gap is None:
            return 0.0
        expected = max(last + gap, now)
        if expected > queue.opened + LONGEST or len(queue) * (expected - now) >= step_seconds:
            return 0.0
        return min(LONGEST, max(SHORTEST, expected - queue.opened))

    def is_open(self, queue: AdapterQueue, now: float, step_seconds: float) -> bool:
        """Would the group still be within its window at the next step?"""
        return now + step_seconds < queue.opened + self.length(queue, now, step_seconds)
