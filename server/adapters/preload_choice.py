"""Which version to bring onto the device before anybody asks for it: the rule of the engine and of the simulator."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from server.adapters.eviction.policy import EvictionPolicy

MARGIN = math.log2(2.0)
"""How much more a preload must be worth than each version that makes place for it, or near equals would swap: at 1.25
the simulator wastes twice as many preloads as at 2, and hits no more."""


@dataclass(frozen=True)
class PreloadCandidate:
    """A version that is foretold to be asked for."""

    key: str
    size_bytes: int
    reload_seconds: float


@dataclass(frozen=True)
class Preload:
    """A preload that is worth its place, and the versions that make place for it."""

    candidate: PreloadCandidate
    victims: tuple[str, ...]


class PreloadTier(Protocol):
    """What the choice must know of the tier that it preloads into."""

    @property
    def free_bytes(self) -> int: ...

    def holds(self, key: str) -> bool:
        """Is the version there, or on its way?"""

    def evictable(self) -> Iterator[tuple[str, int, float]]:
        """Key, bytes and reload seconds of what may go, what is worth least first: not what is pinned or waited for."""


def choose_preload(
    candidates: Iterable[PreloadCandidate],
    tier: PreloadTier,
    policy: EvictionPolicy,
    now: float,
    margin: float = MARGIN,
) -> Preload | None:
    """The first candidate (the hottest come first) that costs only versions which are worth less; None if none does."""
    for candidate in candidates:
        if tier.holds(candidate.key):
            continue
        least = policy.worth(candidate.key, candidate.size_bytes, candidate.reload_seconds, now) - margin
        victims = _victims(candidate.size_bytes - tier.free_bytes, least, tier, policy, now)
        if victims is not None:
            return Preload(candidate, victims)
    return None


def _victims(
    lacking: int, least: float, tier: PreloadTier, policy: EvictionPolicy, now: float
) -> tuple[str, ...] | None:
    """Versions worth less than `least` that together free `lacking` bytes; None where there are not enough."""
    victims = []
    evictable = tier.evictable()
    while lacking > 0:
        victim = next(evictable, None)
        if victim is None or policy.worth(*victim, now) >= least:
            return None
        key, size_bytes, _ = victim
        victims.append(key)
        lacking -= size_bytes
    return tuple(victims)
