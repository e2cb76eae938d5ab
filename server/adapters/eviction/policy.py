"""What every eviction policy is asked, by the residency of a running engine and by the simulator alike."""

from collections.abc import Iterator, Mapping
from typing import Protocol


class EvictionPolicy(Protocol):
    """Ranks the versions of one tier. Keys are digests; `now` never goes backwards, in seconds of any clock.

    A policy hears of every request, also for versions that the tier does not hold, and decides only which of those
    that it holds is worth least. What may not go (pinned, waited for) is the tier's own business: it passes over it.
    """

    def asked(self, key: str, now: float) -> None:
        """A request asked for this version, whether the tier holds it or not."""

    def admitted(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """The tier holds this version now; bringing it back would take `reload_seconds`."""

    def removed(self, key: str) -> None:
        """The tier holds this version no longer."""

    def foretold(self, rates: Mapping[str, float], now: float) -> None:
        """What is predicted for the near future, in requests a second by key; replaces what was foretold before."""

    def worth(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> float:
        """How much a version, held or not, deserves its place. Comparable among all keys at the same `now`."""

    def coldest(self, now: float) -> Iterator[str]:
        """The versions that the tier holds, those worth least first. The tier must not change meanwhile."""
