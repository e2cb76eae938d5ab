"""Random linears, adapters and batches for the native kernels, and what they must say."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from bitsandbytes.functional import QuantState, get_4bit_type
from torch import nn

from server.adapters.adapter_linear import AdapterBatch, AdapterLinear, Segment
from server.adapters.normal_form import LinearForm, NormalForm
from server.kernels.native_library import NativeLibrary
from server.kernels.native_linear import NativeKernels
from server.kernels.quantised_linear import Linear4bit

NAME = "proj"


@dataclass(frozen=True)
class Case:
    """A linear [out, in] and a batch: one (rows, rank, parts) for each segment; rank None is the base's rows.

    `parts` are the fields of the form that are set beside the factors.
    """

    in_features: int
    out_features: int
    segments: tuple[tuple[int, int | None, tuple[str, ...]], ...]
    kind: str = "nf4"
    block_size: int = 64
    bias: bool = False
    seed: int = 0

    @property
    def rows(self) -> int:
        return sum(count for count, _, _ in self.segments)

    def linear(self) -> Linear4bit:
        """Random codes and scales as bitsandbytes stores them; its own functions compile for seconds at odd sizes."""
        generator = torch.Generator().manual_seed(self.seed)
        count = self.out_features * self.in_features
        module = Linear4bit(self.in_features, self.out_features, bias=self.bias, quant_type=self.kind)
        nibbles = torch.randint(256, ((count + 1) // 2, 1), generator=generator, dtype=torch.uint8)
        state = QuantState(
            absmax=torch.rand(-(-count // self.block_size), generator=generator) + 0.5,
            shape=torch.Size((self.out_features, self.in_features)),
            code=get_4bit_type(self.kind, device="cpu"),
            blocksize=self.block_size,
            quant_type=self.kind,
            dtype=torch.float32,
        )
        module.weight.data, module.weight.quant_state = nibbles, state  # type: ignore[attr-defined]
        if self.bias:
            module.bias = nn.Parameter(torch.randn(self.out_features, generator=generator))
        return module.requires_grad_(False)

    def forms(self) -> list[LinearForm | None]:
        generator = torch.Generator().manual_seed(self.seed + 1)
        return [None if rank is None else self._form(rank, parts, generator) for _, rank, parts in self.segments]

    def x(self) -> torch.Tensor:
        return torch.randn(self.rows, self.in_features, generator=torch.Generator().manual_seed(self.seed + 2))

    def batch(self) -> AdapterBatch:
        at, rows = 0, []
        for (count, _, _), form in zip(self.segments, self.forms(), strict=True):
            if form is not None:
                rows.append(Segment(at, at + count, NormalForm({NAME: form})))
            at += count
        return AdapterBatch(rows=rows)

    def _form(self, rank: int, parts: Sequence[str], generator: torch.Generator) -> LinearForm:
        def values(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        return LinearForm(
            a=values(rank, self.in_features) * self.in_features**-0.5 if rank else None,
            b=values(self.out_features, rank) if rank else None,
            in_scale=values(self.in_features) if "in_scale" in parts else None,
            out_scale=values(self.out_features) if "out_scale" in parts else None,
            bias=values(self.out_features) if "bias" in parts else None,
            scale=1.75 if "scale" in parts else 1.0,
        )


def weight_of(module: Linear4bit) -> torch.Tensor:
    """The dequantised weight, fp32 [out, in]."""
    state = module.weight.quant_state  # type: ignore[attr-defined]
    assert isinstance(state, QuantState)
    nibbles = module.weight.data.view(-1)
    codes = torch.stack([nibbles >> 4, nibbles & 15], 1).view(-1)[: module.out_features * module.in_features]
    scales = state.absmax.repeat_interleave(state.blocksize)[: codes.numel()]
    weight: torch.Tensor = state.code[codes.long()] * scales
    return weight.view(module.out_features, module.in_features)


def dense(module: Linear4bit) -> nn.Linear:
    """The linear over the dequantised weight, in double precision."""
    plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
    plain.weight = nn.Parameter(weight_of(module).double())
    if module.bias is not None:
        plain.bias = nn.Parameter(module.bias.double())
    return plain.requires_grad_(False)


def expected(case: Case) -> torch.Tensor:
    """What the reference layer says in double precision, [rows, out]."""
    rows = [
        Segment(segment.start, segment.end, segment.form.to(torch.device("cpu"), torch.float64))
        for segment in case.batch().rows
    ]
    reference = AdapterLinear(dense(case.linear()), NAME, AdapterBatch(rows=rows))
    y: torch.Tensor = reference(case.x().double()[None])[0]
    return y


def kernels(instruction_set: str | None = None, *, threads: int = 1) -> NativeKernels:
    return NativeKernels(NativeLibrary(instruction_set=instruction_set), threads=threads)
