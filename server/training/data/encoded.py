"""An example as tokens, and which of them are learnt."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

IGNORED: Final = -100
"""The label of a token that is context: the loss leaves it out."""


@dataclass(frozen=True)
class Encoded:
    """Token ids, and a byte for each that is 1 where the token is learnt. Compact: a corpus of these is in memory."""

    ids: "array[int]"
    learnt: bytes

    @staticmethod
    def of(ids: Sequence[int], learnt: Sequence[bool]) -> "Encoded":
        """The first token has nothing before it to be foretold from, so it is never learnt.

        Without that rule a packed row would foretell it from the example before.
        """
        if len(ids) != len(learnt):
            raise ValueError(f"{len(ids)} tokens have {len(learnt)} marks")
        return Encoded(array("i", ids), b"\x00" * min(1, len(ids)) + bytes(map(bool, learnt[1:])))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def learnt_tokens(self) -> int:
        return sum(self.learnt)

    @property
    def labels(self) -> list[int]:
        """The ids, with IGNORED for what is not learnt."""
        return [token if learnt else IGNORED for token, learnt in zip(self.ids, self.learnt, strict=True)]

    def cut(self, length: int) -> "Encoded":
        """The first `length` tokens."""
        return self if len(self) <= length else Encoded(self.ids[:length], self.learnt[:length])
