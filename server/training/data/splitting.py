"""Which examples are held out. It follows from their content, so that a longer file leaves them where they were."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from server.errors import InvalidTrainingData
from server.training.example import Example

MOST_HELD_OUT: Final = 512


class Split(NamedTuple):
    """A file's examples, in its order. Equal examples are on the same side."""

    training: list[Example]
    held_out: list[Example]


def split(examples: Sequence[Example], *, share: float, seed: int, most: int = MOST_HELD_OUT) -> Split:
    """Hold about `share` of the examples out, at most `most`: those whose digests, with the seed, are the smallest.

    Where `share` is above 0 and there are two different examples, each side gets at least one.

    Raises:
        InvalidTrainingData: the share is not within 0 and 1, or is 1.
    """
    if not 0 <= share < 1:
        raise InvalidTrainingData(f"validation_share: must be at least 0 and below 1, is {share}")
    digests = [_digest(example, seed) for example in examples]
    different = sorted(set(digests))
    if share == 0 or len(different) < 2:
        return Split(list(examples), [])
    below = sum(digest < share * 2**64 for digest in different)
    held_out = set(different[: min(max(below, 1), most, len(different) - 1)])
    sides = Split([], [])
    for example, digest in zip(examples, digests, strict=True):
        sides[digest in held_out].append(example)
    return sides


def _digest(example: Example, seed: int) -> int:
    content = msgspec.json.encode(example, order="deterministic")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=str(seed).encode()[:64]).digest(), "big")
