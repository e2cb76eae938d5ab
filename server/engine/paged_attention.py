"""Attention over the paged KV cache, for any model that uses the transformers attention interface.

The model runs over a packed batch [1, tokens]: the tokens of all rows one after another. Every attention module
gets a `PagedKV` of its runner; the registered function writes the new keys and values into it and attends, row by
row, over what the row's blocks hold. Keys arrive rotated, so a cached block serves at its position only.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from server.engine.batch import Row
from server.engine.page_layout import LayerShape, PageLayout

ATTENTION_NAME = "switchyard_paged"

_NULL_SLOT = 0
"""A slot of zeros that is never written, in the page that is never given out. Masked places of a ragged batch point at
it: what another sequence, or an adapter, left in a real slot may be infinite or no number, and a mask does not stop
that (0 times NaN is NaN)."""


@dataclass(frozen=True)
class PrefillSpan:
    """Packed tokens [start, end) of one row, at positions [first, first + end - start) of its sequence."""

    start: int
    end: int
    first: int

    @property
    def context(self) -> int:
        """Positions 0 to the last of the span."""
        return self.first + self.end - self.start


@dataclass(frozen=True)
class StepSlots:
    """Slots of one step, in the views of the layers with a certain number of slots per page.

    `new` [tokens]: where each packed token's key and value go. `prefills`: [context] of each span. `decodes` [rows
    with a single token, longest context]: slots beyond a row's length are the null slot.
    """

    new: torch.Tensor
    prefills: tuple[torch.Tensor, ...]
    decodes: torch.Tensor


@dataclass
class AttentionPlan:
    """Where the tokens of one step find their context; the same for every layer but for the numbers of the slots.

    `slots`: by a layer's slots per page. `decode_rows` [n]: packed indices of the rows with a single token;
    `decode_lengths` [n] are the lengths of their contexts, `longest` the greatest.
    """

    slots: Mapping[int, StepSlots]
    prefills: tuple[PrefillSpan, ...]
    decode_rows: torch.Tensor
    decode_lengths: torch.Tensor
    longest: int
    _masks: dict[tuple[int, int | None], torch.Tensor] = field(default_factory=dict)

    def decode_mask(self, window: int | None) -> torch.Tensor:
        """True where a decoding row sees a slot: [n, 1, 1, longest context]."""
        mask = self._masks.get((-1, window))
        if mask is None:
            position = torch.arange(self.longest, device=self.decode_lengths.device)
            mask = position < self.decode_lengths[:, None]
            if window is not None:
                mask &= position >= self.decode_lengths[:, None] - window
            mask = self._masks[-1, window] = mask[:, None, None, :]
        return mask

    def prefill_mask(self, index: int, window: int | None) -> torch.Tensor:
        """True where a query of span `index` sees a key: [queries, context]."""
        mask = self._masks.get((index, window))
        if mask is None:
            span = self.prefills[index]
            key = torch.arange(span.context, device=self.decode_rows.device)
            query = torch.arange(span.first, span.context, device=key.device)[:, None]
            mask = key <= query
            if window is not None:
                mask &= key > query - window
            self._masks[index, window] = mask
        return mask


def plan_attention(rows: Seq[Row], layout: PageLayout, device: torch.device) -> AttentionPlan:
    """Lay out the slots of a step's rows, which are packed in this order."""
    prefills, decodes, packed = [], [], 0
    for index, row in enumerate(rows):
        if row.count == 1:
            decodes.append((packed, index, row.start + 1))
        else:
            prefills.append(PrefillSpan(packed, packed + row.count, row.start))
        packed += row.count
    lengths = torch.tensor([end for _, _, end in decodes], dtype=torch.long)
    longest = max((end for _, _, end in decodes), default=0)
    width = max(len(row.sequence.blocks) for row in rows)
    table = torch.tensor([row.sequence.blocks + [0] * (width - len(row.sequence.blocks)) for row in rows])
    offsets = torch.arange(layout.block_size)

    def slots(per_page: int) -> StepSlots:
        of_rows = (table[:, :, None] * per_page + offsets).flatten(1)
        contexts = of_rows[[index for _, index, _ in decodes], :longest]
        contexts[torch.arange(longest) >= lengths[:, None]] = _NULL_SLOT
        return StepSlots(
            torch.cat([of_rows[at, row.start : row.start + row.count] for at, row in enumerate(rows)]).to(device),
            tuple(of_rows[at, : row.start + row.count].to(device) for at, row in enumerate(rows) if row.count > 1),
            contexts.to(device),
        )

    return AttentionPlan(
        slots={per_page: slots(per_page) for per_page in layout.strides},
        prefills=tuple(prefills),
        decode_rows=torch.tensor([at for at, _, _ in decodes], dtype=torch.long, device=device),
        decode_lengths=lengths.to(device),
        longest=longest,
    )


@dataclass(frozen=True)
class Scoring:
    """How a layer scores keys: the scale of the products, the sliding window and the soft cap, where it has them."""

    scaling: float
    window: int | None = None
    softcap: float | None = None


@dataclass(frozen=True)
class _Layer:
    """Views of one layer's keys and values, [slots, kv heads, head dim]."""

    keys: torch.Tensor
    values: torch.Tensor
    slots_per_page: int


class PagedKV:
    """The keys and values of all layers, in the pages of one buffer that adapters use too.

    Until `allocate`, calls only record each layer's shape and attend over the batch itself, as one sequence: one such
    forward tells how much memory a page takes.
    """

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}
        self.plan: AttentionPlan | None = None
        self._layers: dict[int, _Layer] = {}

    def layout(self, block_size: int) -> PageLayout:
        """How a page of `block_size` tokens looks, once the layers are recorded."""
        return PageLayout(self.shapes, block_size)

    def allocate(self, pages: int, layout: PageLayout, device: torch.device) -> torch.Tensor:
        """Reserve `pages` pages, numbered from 1, and the page of zeros before them: uint8, [1 + pages, bytes]."""
        memory = torch.zeros(1 + pages, layout.page_bytes, dtype=torch.uint8, device=device)
        for layer, keys, values in layout.views(memory.view(-1)):
            self._layers[layer] = _Layer(keys, values, layout.slots_per_page(layer))
        return memory

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        """query [1, heads, tokens, dim], key and value [1, kv heads, tokens, dim] -> [1, tokens, heads, dim]."""
        if self.plan is None:
            return self._record(layer, query, key, value, scoring)
        plan, cache = self.plan, self._layers[layer]
        keys, values, slots = cache.keys, cache.values, plan.slots[cache.slots_per_page]
        keys.index_copy_(0, slots.new, key[0].transpose(0, 1))
        values.index_copy_(0, slots.new, value[0].transpose(0, 1))
        out = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
        for index, span in enumerate(plan.prefills):
            attended = _attention(
                query[:, :, span.start : span.end],
                keys[slots.prefills[index]].transpose(0, 1)[None],
                values[slots.prefills[index]].transpose(0, 1)[None],
                plan.prefill_mask(index, scoring.window),
                scoring,
            )
            out[span.start : span.end] = attended[0].transpose(0, 1)
        if len(plan.decode_rows):
            context = (keys[slots.decodes], values[slots.decodes])
            out[plan.decode_rows] = self._decode(plan, query, *context, scoring)
        return out[None]

    def _decode(
        self,
        plan: AttentionPlan,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        """All single-token rows at once; the query heads of a key-value head stand in the place of queries.

        keys and values: [rows, longest context, kv heads, dim].
        """
        heads, dim, kv_heads = query.shape[1], query.shape[3], keys.shape[2]
        grouped = query[0][:, plan.decode_rows].transpose(0, 1).reshape(-1, kv_heads, heads // kv_heads, dim)
        attended = _attention(
            grouped,
            keys.transpose(1, 2),
            values.transpose(1, 2),
            plan.decode_mask(scoring.window),
            scoring,
        )
        return attended.reshape(-1, heads, dim)

    def _record(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[3], key.dtype)
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).tril()
        if scoring.window is not None:
            mask = mask.triu(1 - scoring.window)
        return _attention(query, key, value, mask, scoring).transpose(1, 2)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """query [n, heads, q, dim], key and value [n, kv heads, k, dim], boolean mask -> [n, heads, q, dim].

    A soft cap bounds the scores to cap * tanh(score / cap) before the mask (Gemma 2, arXiv:2408.00118).
    """
    scale, softcap = scoring.scaling, scoring.softcap
    if softcap is None:
        grouped = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = torch.tanh(query @ key.transpose(-1, -2) * (scale / softcap)) * softcap
    scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores.float(), dim=-1).to(value.dtype) @ value


def paged_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls for `ATTENTION_NAME`; the module carries its runner's `PagedKV`."""
    assert attention_mask is None
    assert dropout == 0.0
    paged_kv: PagedKV = module.paged_kv  # type: ignore[assignment]
    layer: int = module.layer_idx  # type: ignore[assignment]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return paged_kv.attend(layer, query, key, value, Scoring(scale, sliding_window, softcap)), None


def register_paged_attention() -> None:
    """Make `ATTENTION_NAME` known to transformers; no mask function is registered, so models pass none."""
    AttentionInterface.register(ATTENTION_NAME, paged_attention)
