"""The one form that every adapter takes on the device.

Per targeted linear module

    y = out_scale * (W (in_scale * x) + B (A (in_scale * x))) + bias

where W is the resident weight, which nothing ever writes to. A reader per PEFT format fills the form in once,
when the adapter is loaded; the layers and the runner know of no method.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import torch


@dataclass(frozen=True, eq=False)
class LinearForm:
    """What an adapter does to one linear module; None is the identity.

    Shapes: `a` [rank, in], `b` [out, rank] with every scale folded in, `in_scale` [in], `out_scale` [out],
    `bias` [out]: the adapter's *effective* bias, which replaces the base's.
    """

    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    in_scale: torch.Tensor | None = None
    out_scale: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    def tensors(self) -> Iterator[torch.Tensor]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield value

    def to(self, device: torch.device, dtype: torch.dtype) -> "LinearForm":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return LinearForm(
            **{
                name: None if tensor is None else tensor.to(device=device, dtype=dtype, non_blocking=True).contiguous()
                for name, tensor in values.items()
            }
        )


@dataclass(frozen=True, eq=False)
class NormalForm:
    """A whole adapter: a form for each linear module it targets, by the module's full name in the base."""

    linears: Mapping[str, LinearForm]

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all tensors; storage that several modules share counts once."""
        storages = {}
        for linear in self.linears.values():
            for tensor in linear.tensors():
                storage = tensor.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())

    @cached_property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max((linear.a.shape[0] for linear in self.linears.values() if linear.a is not None), default=0)

    def to(self, device: torch.device, dtype: torch.dtype) -> "NormalForm":
        """The same form on `device` in `dtype`; tensors already there are not copied."""
        return NormalForm({name: linear.to(device, dtype) for name, linear in self.linears.items()})
