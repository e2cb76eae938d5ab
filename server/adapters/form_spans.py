"""The host memory that a form consists of, as spans that can be copied one by one."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from server.adapters.normal_form import NormalForm, identity


@dataclass(frozen=True)
class Span:
    """Elements [start, end) of the storage of `of`, all of its format."""

    of: torch.Tensor
    start: int
    end: int

    def flat(self, end: int) -> torch.Tensor:
        """What lies from the start of the span to element `end` of the storage, as it lies there: [elements]."""
        return self.of.as_strided((end - self.start,), (1,), self.start)

    def continues(self, before: "Span") -> bool:
        """Does it begin where another ends?"""
        same = self.of.untyped_storage().data_ptr() == before.of.untyped_storage().data_ptr()
        return same and self.of.dtype == before.of.dtype and self.start == before.end


@dataclass(frozen=True)
class FormSpans:
    """The spans of a form, in the order in which they lie, and of each tensor its span and its offset in it."""

    spans: tuple[Span, ...]
    places: dict[tuple[object, ...], tuple[int, int]]


def form_spans(form: NormalForm) -> FormSpans:
    """One span for each tensor; tensors that overlap, as one that several modules share does, have one together."""
    spans: list[Span] = []
    places: dict[tuple[object, ...], tuple[int, int]] = {}
    for tensor in sorted(_distinct(form.tensors()), key=_place):
        start = int(tensor.storage_offset())
        end = start + 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        last = spans[-1] if spans else None
        if last is not None and _place(last.of)[:2] == _place(tensor)[:2] and start < last.end:
            spans[-1] = Span(last.of, last.start, max(last.end, end))
        else:
            spans.append(Span(tensor, start, end))
        places[identity(tensor)] = (len(spans) - 1, start - spans[-1].start)
    return FormSpans(tuple(spans), places)


def _distinct(tensors: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
    return {identity(tensor): tensor for tensor in tensors if tensor.numel()}.values()


def _place(tensor: torch.Tensor) -> tuple[int, str, int]:
    return tensor.untyped_storage().data_ptr(), str(tensor.dtype), int(tensor.storage_offset())
