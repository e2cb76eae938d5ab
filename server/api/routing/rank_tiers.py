"""Which of a task's rank tiers answers: the first for which the device has room, without going back and forth.

Room is not free memory, since an idle adapter stays where it is until somebody needs its place. It is the part of
what adapters may have, beside the keys and values of running rows, that is left by the adapters in use.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from adapters_store.task_rule import Pressure


@dataclass(frozen=True)
class Demand:
    """What the device's adapter budget is wanted for.

    `sizes` has the bytes of every version in use, by digest: those that running rows hold, and those asked for
    of late. `waiting` holds the names of adapters that requests wait for and that are not on the device.
    """

    budget_bytes: int
    sizes: Mapping[str, int]
    waiting: frozenset[str] = frozenset()

    def filled_beside(self, without: Set[str], size_bytes: int) -> float:
        """The share of the budget that is filled by `size_bytes` and by all in use but `without`."""
        others = sum(size for digest, size in self.sizes.items() if digest not in without)
        return (others + size_bytes) / self.budget_bytes


@dataclass(frozen=True)
class TierCandidate:
    """A tier that could answer: name, digest (None for the base) and bytes on the device."""

    name: str
    digest: str | None
    size_bytes: int


@dataclass(frozen=True)
class TierChoice:
    """The tier that answers, from 0, and since when (seconds of the caller's clock) it is that one.

    `filled` is the share of the budget that adapters in use would fill with each tier.
    """

    tier: int
    since: float
    filled: tuple[float, ...]


def choose_tier(
    tiers: Sequence[TierCandidate], demand: Demand, pressure: Pressure, before: TierChoice | None, now: float
) -> TierChoice:
    """The tier for a request that comes now; `before` is the last choice among these tiers, None for the first.

    What the tiers themselves take does not count against them, so that a choice cannot undo itself. The last tier
    always answers.
    """
    own = {tier.digest for tier in tiers if tier.digest is not None}
    filled = tuple(demand.filled_beside(own, tier.size_bytes) for tier in tiers)
    others_wait = bool(demand.waiting - {tier.name for tier in tiers})
    may_step_up = before is not None and now - before.since >= pressure.hold_seconds
    last = len(tiers) - 1
    current = 0 if before is None else min(before.tier, last)
    chosen = last
    for tier in range(last):
        if tier < current:
            taken = may_step_up and not others_wait and filled[tier] <= pressure.up
        else:
            taken = filled[tier] <= pressure.down
        if taken:
            chosen = tier
            break
    since = now if before is None or chosen != before.tier else before.since
    return TierChoice(chosen, since, filled)
