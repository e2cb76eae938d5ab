"""Which arm of a task a request takes, so that the shares come out as the weights say.

Request by request the split is deterministic and even: a Kronecker sequence (the multiples of an irrational
number, modulo 1) says for each request where it falls on the line of weights. Its discrepancy is of the order
log(N) / N (Kuipers and Niederreiter, Uniform Distribution of Sequences, chapter 2.3), where random choices err by
1 / sqrt(N): of 2,000 requests 10 % are 200, give or take two, and not give or take twenty-six. Unlike round robin it
keeps no step with traffic that repeats, since the multiples of a multiple are spread as evenly: every tenth
request gets the same shares as all.

By label the split is a weighted rendezvous (highest random weight): a label stays on its arm for as long as the
weights stay, whatever server it meets, and more weight for one arm moves labels to that arm and none elsewhere.
"""

import hashlib
import math
import secrets
from collections.abc import Sequence
from typing import Final

_BITS: Final = 64
_UNIT: Final = 1 << _BITS

GOLDEN_STEP: Final = (math.isqrt(5 << (2 * _BITS)) - _UNIT) // 2
"""The golden ratio's fraction in units of 2^-64: the number whose multiples are spread most evenly."""

_RADICANDS: Final = (2, 3, 7, 11)


def independent_step(index: int) -> int:
    """The step of one of four further sequences, which fall together with the golden one's no more than by chance.

    The roots of different primes and the golden ratio are linearly independent over the rational numbers, so
    that the pairs of two sequences fill the square as evenly as each fills its line.
    """
    return math.isqrt(_RADICANDS[index] << (2 * _BITS)) % _UNIT


class EvenSequence:
    """Points of [0, 1), spread evenly from whichever point they begin with. Integers, so that it never drifts."""

    def __init__(self, step: int = GOLDEN_STEP, start: int | None = None) -> None:
        self._step = step
        self._at = secrets.randbits(_BITS) if start is None else start

    def next(self) -> float:
        """The next point."""
        self._at = (self._at + self._step) % _UNIT
        # By 53 bits, as many as a float holds, so that the largest is still below 1.
        return (self._at >> 11) / (1 << 53)


def arm_at(point: float, weights: Sequence[float]) -> int:
    """The arm whose part of the line of weights holds `point` of [0, 1). Some weight is above 0."""
    place = point * math.fsum(weights)
    chosen = 0
    for arm, weight in enumerate(weights):
        if weight > 0:
            chosen = arm
            if place < weight:
                break
            place -= weight
    return chosen


def arm_of_label(label: str, task: str, weights: Sequence[float], arms: Sequence[str]) -> int:
    """The arm of everything that has this label. `arms` are names that stay when weights or other arms change."""
    scores = [
        weight / -math.log(_uniform(task, arm, label)) if weight > 0 else -1.0
        for weight, arm in zip(weights, arms, strict=True)
    ]
    return scores.index(max(scores))


def _uniform(*parts: str) -> float:
    """A number of (0, 1) that follows from the parts."""
    hashed = hashlib.blake2b(digest_size=7)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "big") + data)
    return ((int.from_bytes(hashed.digest(), "big") >> 4) + 0.5) / (1 << 52)
