"""The interface between the step loop and a model."""

from typing import Protocol

import torch

from server.adapters.normal_form import NormalForm
from server.engine.batch import Batch


class Runner(Protocol):
    """A resident model: computes mixed-adapter steps, and says what it needs of the device's memory."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that the keys and values of one token take, over all layers."""

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """Reserve the KV cache, once, before the first `run`; a block is `block_size` tokens."""

    def place(self, form: NormalForm) -> NormalForm:
        """A loaded adapter, in host memory, as `run` wants it on the device."""

    def run(self, batch: Batch) -> torch.Tensor:
        """Logits, fp32 [sum of the rows' `logits`, vocabulary], row by row: its scored positions, then the last.

        Writes the keys and values of the batch's tokens into the blocks of their sequences.
        """
