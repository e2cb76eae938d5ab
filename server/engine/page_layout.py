"""How the keys and values of all layers lie in one page of the device's memory.

A page is one KV block of all layers: layer after layer, its keys, then its values, each `block_size` rows of one
token. So a page is also a unit that adapters can take, and the memory is one buffer for both.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

ALIGNMENT = 64
"""Bytes to whose multiples every tensor in the buffer is aligned."""


def aligned(size_bytes: int) -> int:
    """`size_bytes` rounded up to `ALIGNMENT`."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class LayerShape:
    """The key-value geometry of one attention layer."""

    kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's key, or of its value."""
        return self.kv_heads * self.head_dim * self.dtype.itemsize


@dataclass(frozen=True)
class PageLayout:
    """Where each layer's keys and values lie in a page of `block_size` tokens.

    A page is a whole number of rows of every layer: a layer's token can then be addressed by one number, its *slot*
    (see `slots_per_page`), in one flat view of the whole buffer.
    """

    shapes: Mapping[int, LayerShape]
    block_size: int

    @cached_property
    def page_bytes(self) -> int:
        unit = math.lcm(ALIGNMENT, *(shape.row_bytes for shape in self.shapes.values()))
        used = sum(2 * self._side_bytes(shape) for shape in self.shapes.values())
        return -(-used // unit) * unit

    def slots_per_page(self, layer: int) -> int:
        """Slot `page * slots_per_page + offset` is the row of a page's token `offset` in the views of a layer."""
        return self.page_bytes // self.shapes[layer].row_bytes

    @cached_property
    def strides(self) -> frozenset[int]:
        """The slots per page of all layers; most models have one number."""
        return frozenset(map(self.slots_per_page, self.shapes))

    def views(self, buffer: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Each layer with its keys and values, [slots, kv heads, head dim], in a buffer of pages (uint8, [bytes]).

        The views overlap: only the first `block_size` slots of each page are the layer's own.
        """
        at = 0
        for layer, shape in self.shapes.items():
            side = self._side_bytes(shape)
            yield layer, _rows(buffer[at:], shape), _rows(buffer[at + side :], shape)
            at += 2 * side

    def _side_bytes(self, shape: LayerShape) -> int:
        return aligned(self.block_size * shape.row_bytes)


def _rows(buffer: torch.Tensor, shape: LayerShape) -> torch.Tensor:
    whole = len(buffer) // shape.row_bytes * shape.row_bytes
    return buffer[:whole].view(shape.dtype).view(-1, shape.kv_heads, shape.head_dim)
