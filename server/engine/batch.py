"""What one step computes."""

from dataclasses import dataclass

from server.adapters.normal_form import NormalForm
from server.engine.sequence import Sequence


@dataclass(frozen=True)
class Row:
    """`count` tokens of one sequence, from position `start`.

    `sample`: the logits of the last of these tokens are wanted, to choose the next token. `scored`: the positions in
    the sequence, all before that one, whose logits are wanted to score the prompt tokens after them.
    `form` is the adapter that is applied, None for the base.
    """

    sequence: Sequence
    start: int
    count: int
    sample: bool
    form: NormalForm | None
    scored: range = range(0)

    @classmethod
    def next_of(cls, sequence: Sequence, count: int, form: NormalForm | None) -> "Row":
        """The next `count` tokens of a sequence that are not computed yet."""
        return cls(
            sequence,
            start=sequence.computed,
            count=count,
            sample=count == sequence.pending and sequence.request.sampling.max_tokens > 0,
            form=form,
            scored=sequence.scored_by(sequence.computed, count),
        )

    @property
    def logits(self) -> int:
        """At how many positions the logits are wanted."""
        return len(self.scored) + self.sample


@dataclass(frozen=True)
class Batch:
    """Rows of one step, ordered so that the rows of one adapter are neighbours."""

    rows: tuple[Row, ...]

    @property
    def tokens(self) -> int:
        return sum(row.count for row in self.rows)

    @property
    def adapters(self) -> int:
        """Distinct adapters, the base not counted."""
        return len({row.sequence.digest for row in self.rows} - {None})
