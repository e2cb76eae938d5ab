"""An adapted linear over native kernels: the base and every adapter of its rows in one call."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from server.adapters.adapter_linear import AdapterBatch, AdapterLinear, Segment
from server.adapters.normal_form import LinearForm
from server.kernels.native_library import AdapterStruct
from server.kernels.native_linear import NativeLinear, RowLayout, row_layout


class NativeAdapterLinear(AdapterLinear):
    """`AdapterLinear` whose base is native; for the arguments see there.

    Descriptors of forms are made once per form, and the layout of a batch once per composition: between two steps of
    the same rows nothing is built anew.
    """

    def __init__(self, base: NativeLinear, name: str, batch: AdapterBatch, *, head: bool = False) -> None:
        super().__init__(base, name, batch, head=head)
        self._descriptors: WeakKeyDictionary[LinearForm, AdapterStruct] = WeakKeyDictionary()
        self._segments: Sequence[Segment] = ()
        self._layout = row_layout([])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [1, rows, in] -> [1, rows, out]."""
        native: NativeLinear = self.base  # type: ignore[assignment]
        rows = x.numel() // native.in_features
        segments = self._batch.sampled if self._head else self._batch.rows
        if segments != self._segments or rows != self._layout.rows:
            self._layout = self._laid_out(segments, rows)
            self._segments = segments
        return native.adapted(x, self._layout)

    def _laid_out(self, segments: Sequence[Segment], rows: int) -> RowLayout:
        """Every row with its form; those in no segment, or of adapters that leave this module alone, are the base's."""
        covered: list[tuple[int, int, AdapterStruct | None]] = []
        at = 0
        for segment in segments:
            form = segment.form.linears.get(self._name)
            if form is None or segment.start == segment.end:
                continue
            if at < segment.start:
                covered.append((at, segment.start, None))
            covered.append((segment.start, segment.end, self._descriptor(form)))
            at = segment.end
        if at < rows:
            covered.append((at, rows, None))
        return row_layout(covered)

    def _descriptor(self, form: LinearForm) -> AdapterStruct:
        known = self._descriptors.get(form)
        if known is None:
            native: NativeLinear = self.base  # type: ignore[assignment]
            known = self._descriptors[form] = native.descriptor(form)
        return known
