"""How many requests may be on their way at once."""

import math
from collections.abc import Callable
from time import monotonic

from server.errors import QueueFull

_LONGEST_RETRY = 60
# Weight of the newest request in the running mean of request durations.
_NEWEST = 0.1


def _nothing() -> None:
    """Nobody watches."""


class Place:
    """One accepted request, from its acceptance to its end. It is given up once, whatever is called after that."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._entered = admission.clock()
        self._left = False

    def leave(self) -> None:
        """Free the place: the request was worked on, and has ended."""
        if not self._left:
            self._left = True
            self._admission.left(self._admission.clock() - self._entered)

    def withdraw(self) -> None:
        """Free the place of a request that was refused after all: it says nothing of how long requests take."""
        if not self._left:
            self._left = True
            self._admission.withdrawn()


class Admission:
    """A bound on accepted, unfinished requests: those that run and those that wait.

    `capacity` is both together. A refused client is told when its turn would be, if all that were refused
    since the last acceptance stood in line: places become free every (mean duration / requests inside)
    seconds, by Little's law. `watch` is called whenever `inside` has changed.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = monotonic) -> None:
        self.capacity = capacity
        self.clock = clock
        self.inside = 0
        self.watch: Callable[[], None] = _nothing
        self._refused = 0
        self._mean_seconds = 0.0

    def enter(self) -> Place:
        """Take a place.

        Raises:
            QueueFull: all are taken; `retry_after` estimates when one is free for this client.
        """
        return self.enter_all(1)[0]

    def enter_all(self, count: int) -> list[Place]:
        """Take `count` places, at least one, or none of them.

        Raises:
            QueueFull: fewer are free.
        """
        if self.inside + count > self.capacity:
            self._refused += 1
            taken = f"{self.inside} requests are running or waiting"
            if count > 1:
                taken += f" and this one counts as {count}, but {self.capacity} are"
            else:
                taken += ", which is"
            raise QueueFull(f"{taken} all that this server takes; try again later", retry_after=self._retry_after())
        self._refused = 0
        self.inside += count
        self.watch()
        return [Place(self) for _ in range(count)]

    def left(self, seconds: float) -> None:
        """A request ended `seconds` after its acceptance."""
        self.withdrawn()
        self._mean_seconds += (seconds - self._mean_seconds) * (_NEWEST if self._mean_seconds else 1.0)

    def withdrawn(self) -> None:
        """A request gave its place back unused."""
        self.inside -= 1
        self.watch()

    def _retry_after(self) -> int:
        seconds = self._refused * self._mean_seconds / max(1, self.inside)
        return min(_LONGEST_RETRY, max(1, math.ceil(seconds)))
