"""Rows of token ids, each of one example or of several packed, and how they become a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from server.training.data.encoded import IGNORED, Encoded

Row = dict[str, list[int]]


class Rows(Dataset[Row]):
    """Row i is the examples that `packed[i]` names, one after the other.

    A row has `input_ids`, `labels` (IGNORED where nothing is learnt) and `position_ids`, all of one length; positions
    begin at 0 again with each example.
    """

    def __init__(self, examples: Sequence[Encoded], packed: Sequence[Sequence[int]]) -> None:
        self._examples = examples
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: int) -> Row:
        examples = [self._examples[place] for place in self._packed[index]]
        return {
            "input_ids": [token for example in examples for token in example.ids],
            "labels": [label for example in examples for label in example.labels],
            "position_ids": [position for example in examples for position in range(len(example))],
        }

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [sum(len(self._examples[place]) for place in row) for row in self._packed]


@dataclass(frozen=True)
class Collator:
    """Fills rows up on the right to int64 tensors of [rows, longest]; nothing is learnt from the filling.

    With `packed`, a batch has `position_ids` and no attention mask: transformers finds the examples' boundaries where
    positions begin again, in every attention, but only without a key-value cache, which is why the batch says so; the
    filling is an example of its own. Otherwise it has `attention_mask` instead, which is all that PEFT's methods with
    virtual tokens take.
    """

    padding: int
    packed: bool

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)

        def filled(name: str, filling: Callable[[int], list[int]]) -> torch.Tensor:
            return torch.tensor([row[name] + filling(longest - len(row[name])) for row in rows])

        batch: dict[str, Any] = {
            "input_ids": filled("input_ids", lambda count: [self.padding] * count),
            "labels": filled("labels", lambda count: [IGNORED] * count),
        }
        if self.packed:
            return {**batch, "position_ids": filled("position_ids", lambda count: [*range(count)]), "use_cache": False}
        lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
        return {**batch, "attention_mask": (torch.arange(longest)[None] < lengths).long()}
