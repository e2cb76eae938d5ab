"""A linear module of the base, and what the adapters of a mixed batch add to its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from server.adapters.normal_form import LinearForm, NormalForm


@dataclass(frozen=True)
class Segment:
    """Rows [start, end) of a packed batch, all of one adapter."""

    start: int
    end: int
    form: NormalForm


@dataclass
class AdapterBatch:
    """Which rows of the running step belong to which adapter; the runner sets it before each forward.

    `rows` speaks of the packed tokens, `sampled` of the rows that reach the language-model head. Rows in no
    segment are the base's.
    """

    rows: Sequence[Segment] = field(default=())
    sampled: Sequence[Segment] = field(default=())

    def compose(self, rows: Sequence[Segment], sampled: Sequence[Segment]) -> None:
        """Set both; a composition equal to the last step's stays the same object, so that layers can tell at once."""
        if rows != self.rows:
            self.rows = rows
        if sampled != self.sampled:
            self.sampled = sampled


class AdapterLinear(nn.Module):
    """`base` for all rows, then each adapter's normal form on its own rows (the reference implementation).

    Args:
        base: the resident linear; its weights are only read.
        name: the module's full name, by which adapters target it.
        batch: the step's segments, shared with the runner.
        head: True for the language-model head, which sees only the sampled rows.
    """

    def __init__(self, base: nn.Module, name: str, batch: AdapterBatch, *, head: bool = False) -> None:
        super().__init__()
        self.base = base
        self._name = name
        self._batch = batch
        self._head = head

    @property
    def weight(self) -> torch.Tensor:
        """The base's weight: model code looks at its dtype and device."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base.bias  # type: ignore[return-value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [1, rows, in] -> [1, rows, out]."""
        segments = self._batch.sampled if self._head else self._batch.rows
        touched = [(s.start, s.end, form) for s in segments if (form := s.form.linears.get(self._name)) is not None]
        if any(form.in_scale is not None for _, _, form in touched):
            x = x.clone()
            for start, end, form in touched:
                if form.in_scale is not None:
                    x[:, start:end] *= form.in_scale
        y: torch.Tensor = self.base(x)
        inputs, outputs = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for start, end, form in touched:
            self._adapt(form, inputs[start:end], outputs[start:end])
        return y

    def _adapt(self, form: LinearForm, x: torch.Tensor, y: torch.Tensor) -> None:
        """Turn the base's y [rows, out] into the adapter's, in place; x is already scaled."""
        if form.a is not None and form.b is not None:
            low = x.to(form.a.dtype) @ form.a.t()
            if y.dtype == form.b.dtype:
                y.addmm_(low, form.b.t(), alpha=form.scale)
            else:
                y.add_((low @ form.b.t()).to(y.dtype), alpha=form.scale)
        if form.out_scale is not None or form.bias is not None:
            base_bias = self.bias
            if base_bias is not None:
                y -= base_bias
            if form.out_scale is not None:
                y *= form.out_scale
            effective = form.bias if form.bias is not None else base_bias
            if effective is not None:
                y += effective
