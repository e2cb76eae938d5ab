"""The interface between the step loop and a model."""

from typing import Protocol

import torch

from server.engine.batch import Batch


class Runner(Protocol):
    """Computes one mixed-adapter step."""

    def run(self, batch: Batch) -> torch.Tensor:
        """Logits, fp32 [rows that sample, vocabulary], in the order of the batch's rows.

        Writes the keys and values of the batch's tokens into the blocks of their sequences.
        """
