"""The one form that every adapter takes on the device.

Per targeted linear module

    y = out_scale * (W (in_scale * x) + B (A (in_scale * x))) + bias

where W is the resident weight, which nothing ever writes to. A reader per PEFT format fills the form in once, when
the adapter enters host memory; the layers and the runner know of no method. In host memory the tensors are those of
the file, as they are stored; `NormalForm.laid_into` gives the form that the device computes with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch


def identity(tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same numbers in the same memory."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


@dataclass(frozen=True, eq=False)
class LinearForm:
    """What an adapter does to one linear module; None is the identity.

    Shapes: `a` [rank, in], `b` [out, rank], `in_scale` [in], `out_scale` [out], `bias` [out]: the adapter's
    *effective* bias, which replaces the base's. `scale` is what `b` is still to be multiplied with: it is folded in,
    and 1, in every form that computes.
    """

    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    in_scale: torch.Tensor | None = None
    out_scale: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    scale: float = 1.0

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
        """A copy of the form, ready to compute, on `device` in `dtype`."""
        return self.laid_into(torch.empty(self.elements, dtype=dtype, device=device))

    def laid_into(self, flat: torch.Tensor) -> "NormalForm":
        """A copy of the form, ready to compute, in the memory of `flat` [elements].

        The numbers are converted storage by storage and not tensor by tensor: an adapter has hundreds of small ones.
        Scales are folded in fp32. What shared its storage still does, with the shapes and strides that it had.
        """
        scaled = any(linear.scale != 1 for linear in self.linears.values())
        narrow = scaled and flat.dtype.itemsize < torch.float32.itemsize
        work = torch.empty_like(flat, dtype=torch.float32) if narrow else flat
        at = 0
        for whole in self._layout.wholes:
            work[at : at + whole.numel()].copy_(whole)
            at += whole.numel()
        linears = self._layout.over(work)
        if scaled:
            _fold_scales(self.linears, linears)
        if narrow:
            flat.copy_(work)
            linears = self._layout.over(flat)
        return NormalForm(linears)

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

    def over(self, flat: torch.Tensor) -> dict[str, LinearForm]:
        """The linears as views of other flat memory."""
        return {
            name: LinearForm(*[None if place is None else flat.as_strided(*place) for place in places])  # type: ignore[arg-type]
            for name, places in self.places.items()
        }


def _fold_scales(stored: Mapping[str, LinearForm], linears: Mapping[str, LinearForm]) -> None:
    """Multiply every `b` of `linears` with the scale that is stored for it, in place."""
    by_scale: dict[float, list[torch.Tensor]] = {}
    for name, linear in linears.items():
        if linear.b is not None and stored[name].scale != 1:
            by_scale.setdefault(stored[name].scale, []).append(linear.b)
    for scale, factors in by_scale.items():
        torch._foreach_mul_(factors, scale)
