"""What a run tells while it works, and what it is told."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

EventLevel = Literal["info", "warn", "error"]


class Wish(Enum):
    """What is wanted of a running job now."""

    GO_ON = "go_on"
    PAUSE = "pause"
    CANCEL = "cancel"


class Watch(Protocol):
    """The one interface between a run and who follows it: a worker with a database, or a terminal.

    A run calls these from its own thread. It polls `breathe` between micro-batches, and stops with a checkpoint when
    the answer is PAUSE, without one when it is CANCEL.
    """

    def stage(self, name: str) -> None:
        """A stage of the job begins: `data`, `base`, `training`, `evaluation`, `publication`."""

    def event(self, message: str, *, level: EventLevel = "info", data: Mapping[str, object] | None = None) -> None:
        """Something that whoever reads the job's events should know."""

    def metrics(self, step: int, total_steps: int, values: Mapping[str, float]) -> None:
        """Figures of an optimiser step (`loss`, `learning_rate`, `grad_norm`) or an evaluation (`eval_loss`, …)."""

    def checkpoint(self, step: int, directory: Path, values: Mapping[str, float]) -> None:
        """A checkpoint is whole on the disk; a run can be taken up from it."""

    def breathe(self) -> Wish:
        """Between two micro-batches: wait while serving needs the machine, then say what is wanted."""
