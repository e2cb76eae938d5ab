"""Why one row of a step has no result although its neighbours do."""

from dataclasses import dataclass

from server.engine.messages import FailureCode
from server.engine.sequence import Sequence


@dataclass(frozen=True)
class RowFailure:
    """The end of a row's request: a code of a leaf of `server.errors`, and what is wrong, for the client."""

    message: str
    code: FailureCode = "engine_failed"


def overflow(sequence: Sequence) -> RowFailure:
    """The model's own logits are not numbers."""
    name = sequence.adapter.name if sequence.adapter else "the base"
    return RowFailure(f"{name} gave logits that are not finite numbers: its weights overflow on this prompt")
