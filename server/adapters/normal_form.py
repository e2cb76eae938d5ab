"""The one form that every adapter takes on the device.

Per targeted linear module

    y = out_scale * (W (in_scale * x) + scale * B (A (in_scale * x))) + bias

where W is the resident weight, which nothing ever writes to. A reader per PEFT format fills the form in once, when
the adapter enters host memory; the layers and the runner know of no method. In host memory the tensors are those of
the file, as they are stored; on the device they have the format that it computes with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch


@dataclass(frozen=True, eq=False)
class LinearForm:
    """What an adapter does to one linear module; None is the identity.

    Shapes: `a` [rank, in], `b` [out, rank], `in_scale` [in], `out_scale` [out], `bias` [out]: the adapter's
    *effective* bias, which replaces the base's. `scale` is not multiplied into `b`: a load then only copies, and the
    product with it is rounded once.
    """

    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    in_scale: torch.Tensor | None = None
    out_scale: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    scale: float = field(default=1.0, kw_only=True)

    def tensors(self) -> Iterator[torch.Tensor]:
        """The tensors that are there."""
        for value in (self.a, self.b, self.in_scale, self.out_scale, self.bias):
            if value is not None:
                yield value


@dataclass(frozen=True, eq=False)
class NormalForm:
    """A whole adapter: a form for each linear module it targets, by the module's full name in the base."""

    linears: Mapping[str, LinearForm]

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all tensors as they lie here; storage that several modules share counts once."""
        return sum(whole.nbytes for whole in self._layout.wholes)

    @cached_property
    def elements(self) -> int:
        """Numbers in all tensors; storage that several modules share counts once."""
        return sum(whole.numel() for whole in self._layout.wholes)

    @cached_property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max((linear.a.shape[0] for linear in self.linears.values() if linear.a is not None), default=0)

    def tensors(self) -> Iterator[torch.Tensor]:
        """The tensors of all modules; one that several share comes as often as they are."""
        for linear in self.linears.values():
            yield from linear.tensors()

    def to(self, device: torch.device, dtype: torch.dtype) -> "NormalForm":
        """A copy of the form on `device` in `dtype`."""
        return self.laid_into(torch.empty(self.elements, dtype=dtype, device=device))

    def laid_into(self, flat: torch.Tensor) -> "NormalForm":
        """A copy of the form in the memory of `flat` [elements], in its format.

        The numbers are converted storage by storage and not tensor by tensor: an adapter has hundreds of small ones.
        What shared its storage still does, with the shapes and strides that it had.
        """
        at = 0
        for whole in self._layout.wholes:
            flat[at : at + whole.numel()].copy_(whole)
            at += whole.numel()
        over = self._layout.over(flat)
        return NormalForm({name: LinearForm(*over[name], scale=one.scale) for name, one in self.linears.items()})

    @cached_property
    def _layout(self) -> "_Layout":
        starts: dict[int, int] = {}
        wholes: list[torch.Tensor] = []
        at = 0

        def place(tensor: torch.Tensor | None) -> _Place:
            nonlocal at
            if tensor is None:
                return None
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
            if address not in starts:
                wholes.append(tensor.as_strided((storage.nbytes() // tensor.itemsize,), (1,), 0))
                starts[address] = at
                at += wholes[-1].numel()
            return tuple(tensor.shape), tensor.stride(), starts[address] + int(tensor.storage_offset())

        places = {
            name: (place(one.a), place(one.b), place(one.in_scale), place(one.out_scale), place(one.bias))
            for name, one in self.linears.items()
        }
        return _Layout(tuple(wholes), places)


_Place = tuple[tuple[int, ...], tuple[int, ...], int] | None
"""Shape, strides and first element of a tensor in flat memory."""


@dataclass(frozen=True)
class _Layout:
    """Each distinct storage of a form as one flat tensor, and where the tensors lie in these, one after another."""

    wholes: tuple[torch.Tensor, ...]
    places: Mapping[str, tuple[_Place, _Place, _Place, _Place, _Place]]

    def over(self, flat: torch.Tensor) -> dict[str, list[torch.Tensor | None]]:
        """The tensors of each module as views of other flat memory."""
        return {
            name: [None if place is None else flat.as_strided(*place) for place in places]
            for name, places in self.places.items()
        }
