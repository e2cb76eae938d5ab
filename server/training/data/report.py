"""What a job's data came to: shown before training, and kept with its events."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TaskReport:
    """One task. `share` is its part of an epoch's examples, general texts included; `drawn` is that as a count.

    `truncated` are examples whose end was cut at the maximal length, `dropped` those of which nothing learnt was left,
    `unrolled` conversations that the chat template made into one row an answer. The three count both sides of the
    split, before mixing.
    """

    name: str
    examples: int
    training: int
    validation: int
    share: float
    drawn: int
    truncated: int
    dropped: int
    unrolled: int


@dataclass(frozen=True)
class DataReport:
    """The training data of one epoch, as the model sees it; lengths in tokens.

    `rows` are what a batch is made of. `learnt_tokens` have a loss. `fill` is the part of `rows * max_length` that is
    tokens. `longest` is an example's length before it was cut. `notes` are what whoever asked for the job should know.
    """

    kind: Literal["supervised", "preference"]
    max_length: int
    packing: bool
    tasks: tuple[TaskReport, ...]
    general_drawn: int
    general_share: float
    examples: int
    rows: int
    validation_rows: int
    tokens: int
    learnt_tokens: int
    longest: int
    longest_row: int
    mean_length: float
    fill: float
    notes: tuple[str, ...]

    @property
    def truncated(self) -> int:
        return sum(task.truncated for task in self.tasks)

    @property
    def dropped(self) -> int:
        return sum(task.dropped for task in self.tasks)

    def as_values(self) -> dict[str, Any]:
        """The report as JSON values, for an event."""
        return asdict(self)
