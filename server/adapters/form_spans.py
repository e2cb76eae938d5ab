"""The host memory that a form consists of, as spans that can be copied one by one."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from server.adapters.normal_form import NormalForm


@dataclass(frozen=True, slots=True)
class Span:
    """Elements [start, end) of the storage of `of`, all of its format; `storage` is where that begins in memory."""

    of: torch.Tensor
    storage: int
    start: int
    end: int

    def flat(self, end: int) -> torch.Tensor:
        """What lies from the start of the span to element `end` of the storage, as it lies there: [elements]."""
        return self.of.as_strided((end - self.start,), (1,), self.start)

    def continues(self, before: "Span") -> bool:
        """Does it begin where another ends?"""
        return self.start == before.end and self.is_beside(before)

    def is_beside(self, other: "Span") -> bool:
        """Does it lie in the same storage, and in the same format?"""
        return self.storage == other.storage and self.of.dtype == other.of.dtype


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: its shape and strides, its span, and its offset in that."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    span: int
    offset: int


@dataclass(frozen=True, slots=True)
class FormSpans:
    """The spans of a form, in the order in which they lie, and the places of each module's tensors.

    Places are in the order of `LinearForm`, None for what is not there; a tensor without elements has the span -1.
    """

    spans: tuple[Span, ...]
    linears: Mapping[str, tuple[Place | None, ...]]


def form_spans(form: NormalForm) -> FormSpans:
    """One span for each tensor; tensors that overlap, as one that several modules share does, have one together."""
    # Everything is asked of a tensor once: an adapter has hundreds, and each answer costs as much as a small copy.
    alone: dict[int, Span] = {id(tensor): _alone(tensor) for tensor in form.tensors() if tensor.numel()}
    spans: list[Span] = []
    starts: dict[int, tuple[int, int]] = {}
    for key, span in sorted(alone.items(), key=lambda item: (item[1].storage, str(item[1].of.dtype), item[1].start)):
        last = spans[-1] if spans else None
        if last is not None and span.is_beside(last) and span.start < last.end:
            spans[-1] = Span(last.of, last.storage, last.start, max(last.end, span.end))
        else:
            spans.append(span)
        starts[key] = (len(spans) - 1, span.start - spans[-1].start)

    def place(tensor: torch.Tensor | None) -> Place | None:
        if tensor is None:
            return None
        return Place(tuple(tensor.shape), tensor.stride(), *starts.get(id(tensor), (-1, 0)))

    linears = {
        name: (place(one.a), place(one.b), place(one.in_scale), place(one.out_scale), place(one.bias))
        for name, one in form.linears.items()
    }
    return FormSpans(tuple(spans), linears)


def _alone(tensor: torch.Tensor) -> Span:
    start = int(tensor.storage_offset())
    end = start + 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return Span(tensor, tensor.data_ptr() - start * tensor.itemsize, start, end)
