"""Virtual token counters: who has been served least, without credit for having been idle."""

from typing import Generic, TypeVar

Key = TypeVar("Key")

_SPARE = 64


class VirtualCounters(Generic[Key]):
    """One counter for each party that is active, and for each idle one that was served more than its share.

    After the virtual token counter of Sheng et al. (arXiv:2401.00588). A party that becomes active is lifted to the
    least of those that are: what it did not use while it was idle is gone. One that was ahead when it became idle
    stays ahead, until the others have caught up.
    """

    def __init__(self) -> None:
        self._served: dict[Key, float] = {}
        self._open: dict[Key, int] = {}
        self._floor = 0.0

    def enter(self, key: Key) -> None:
        """One more request of a party has come."""
        if key not in self._open:
            self._raise_floor()
            self._served[key] = max(self._served.get(key, 0.0), self._floor)
        self._open[key] = self._open.get(key, 0) + 1

    def leave(self, key: Key) -> None:
        """A request of a party has ended."""
        self._open[key] -= 1
        if not self._open[key]:
            self._raise_floor()
            del self._open[key]
            self._forget()

    def charge(self, key: Key, tokens: float) -> None:
        """A party was served."""
        self._served[key] += tokens

    def served(self, key: Key) -> float:
        """The counter of a party, in weighted tokens; only differences mean something."""
        return self._served.get(key, self._floor)

    def is_active(self, key: Key) -> bool:
        """Has the party a request that has not ended?"""
        return key in self._open

    def __len__(self) -> int:
        return len(self._served)

    def _raise_floor(self) -> None:
        """The least counter of the active ones; it stays where it was while there are none."""
        if self._open:
            self._floor = max(self._floor, min(self._served[key] for key in self._open))

    def _forget(self) -> None:
        """Drop the counters of idle parties that the floor has reached, once there are many."""
        if len(self._served) > 2 * len(self._open) + _SPARE:
            self._served = {
                key: served for key, served in self._served.items() if key in self._open or served > self._floor
            }
