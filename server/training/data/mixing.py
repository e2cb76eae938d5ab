"""How much of each task an epoch holds. One large task must not drown the small ones."""

import math
import random
from collections.abc import Sequence

from server.errors import InvalidTrainingData

__all__ = ["drawn_counts", "general_count", "in_passes", "mixing_shares"]


def mixing_shares(
    sizes: Sequence[int], weights: Sequence[float], *, exponent: float, cap: int | None = None
) -> list[float]:
    """The part of each task: p_t = w_t min(N_t, cap)^exponent / sum. `sizes` are examples N_t, `weights` are w_t.

    An exponent of 1 mixes in proportion to the sizes, 0 equally. A task without examples has no part.

    Raises:
        InvalidTrainingData: a weight is negative or not finite, the exponent not within 0 and 1, or nothing has a part.
    """
    if not 0 <= exponent <= 1:
        raise InvalidTrainingData(f"mixing_exponent: must be within 0 and 1, is {exponent}")
    if any(weight < 0 or not math.isfinite(weight) for weight in weights):
        raise InvalidTrainingData("weight: every task's must be a number of at least 0")
    masses = [
        weight * _capped(size, cap) ** exponent if size else 0.0 for size, weight in zip(sizes, weights, strict=True)
    ]
    if not (total := sum(masses)):
        raise InvalidTrainingData("weight: no task has both examples and a weight above 0")
    return [mass / total for mass in masses]


def drawn_counts(sizes: Sequence[int], shares: Sequence[float], *, cap: int | None = None) -> list[int]:
    """How many examples of each task an epoch draws: sum(min(N_t, cap)) in all, shared out by largest remainders."""
    total = sum(_capped(size, cap) for size in sizes)
    counts = [int(share * total) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda task: (counts[task] - shares[task] * total, task))
    for task in by_remainder[: total - sum(counts)]:
        counts[task] += 1
    return counts


def general_count(drawn: int, share: float) -> int:
    """How many general texts beside `drawn` examples make up `share` of all: G = drawn share / (1 - share), rounded.

    Raises:
        InvalidTrainingData: the share is not within 0 and 1, or is 1.
    """
    if not 0 <= share < 1:
        raise InvalidTrainingData(f"general_share: must be at least 0 and below 1, is {share}")
    return round(drawn * share / (1 - share))


def in_passes(size: int, count: int, chance: random.Random) -> list[int]:
    """`count` indices below `size`: whole passes in random orders, so that none comes twice more often than another."""
    drawn: list[int] = []
    while len(drawn) < count:
        drawn.extend(chance.sample(range(size), min(size, count - len(drawn))))
    return drawn


def _capped(size: int, cap: int | None) -> int:
    return size if cap is None else min(size, cap)
