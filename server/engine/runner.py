"""The interface between the step loop and a model."""

from typing import Protocol

import torch

from server.engine.batch import Batch


class Runner(Protocol):
    """A resident model: computes mixed-adapter steps, and says what it needs of the device's memory."""

    @property
    def adapter_dtype(self) -> torch.dtype:
        """The number format that adapters take on the device."""

    def page_bytes(self, block_size: int) -> int:
        """Bytes of a page: what the keys and values of `block_size` tokens take, over all layers."""

    def allocate(self, pages: int, block_size: int) -> torch.Tensor:
        """Reserve the memory for KV blocks and adapters, once, before the first `run`: uint8, [1 + pages, page bytes].

        A KV block is a page of this number; page 0 stays zero. Adapters lie in pages that no sequence's blocks name.
        """

    def run(self, batch: Batch) -> torch.Tensor:
        """Logits, fp32 [sum of the rows' `logits`, vocabulary], row by row: its scored positions, then the last.

        Writes the keys and values of the batch's tokens into the blocks of their sequences.
        """
