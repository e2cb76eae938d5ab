"""One task of a job: its examples, encoded and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from server.training.data.encoded import Encoded
from server.training.data.encoder import EncodedPreference
from server.training.example import Example

Row = TypeVar("Row", Encoded, EncodedPreference)


@dataclass(frozen=True)
class TaskData:
    """The examples of one source. `weight` None is 1."""

    name: str
    examples: Sequence[Example]
    weight: float | None = None

    @property
    def mixing_weight(self) -> float:
        return 1.0 if self.weight is None else self.weight


@dataclass
class EncodedTask(Generic[Row]):
    """A task on its way into rows. Each item of `training` and `validation` is the rows of one example."""

    source: TaskData
    training: list[list[Row]] = field(default_factory=list)
    validation: list[list[Row]] = field(default_factory=list)
    held_out: list[Example] = field(default_factory=list)
    truncated: int = 0
    dropped: int = 0
    unrolled: int = 0
