"""A 4-bit linear and the adapters of its rows in one native call."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from bitsandbytes.functional import QuantState, dequantize_blockwise
from torch import nn

from server.adapters.normal_form import LinearForm
from server.kernels.code_book import CodeBook
from server.kernels.native_library import AdapterStruct, NativeLibrary, PackedWeights, Workspace
from server.kernels.quantised_linear import Linear4bit


@dataclass(frozen=True)
class NativeKernels:
    """The library with what its calls need: memory, for one call at a time, and threads."""

    library: NativeLibrary
    threads: int
    workspace: Workspace = field(default_factory=Workspace)

    def __str__(self) -> str:
        return f"native ({self.library.instruction_set})"


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Which form each run of a batch's rows has, as a native call takes it; it keeps the forms' tensors.

    `bounds` has one entry more than `adapters`: rows [bounds[i], bounds[i + 1]) have the i-th form.
    """

    rows: int
    segments: int
    bounds: "ctypes.Array[ctypes.c_int64]"
    adapters: "ctypes.Array[ctypes.c_void_p]"
    kept: tuple[object, ...]


class NativeLinear(nn.Module):
    """A resident 4-bit linear [out, in] over rounded activations, with adapters fused.

    The weight is repacked once, after which the module that it came from is not needed: see `release_weight`. Codes,
    scales and the sums of scaled products are what the 4-bit format says, in fp32; the code book's values and the
    activations are rounded to integers of 12 to 13 bits, chunk by chunk of 64 inputs: a relative error of about 1.4e-4
    of the result.

    Raises:
        ValueError: the module's format is not one that the kernels know.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, quantized: Linear4bit, kernels: NativeKernels) -> None:
        super().__init__()
        self.in_features: int = quantized.in_features
        self.out_features: int = quantized.out_features
        self.bias = quantized.bias
        self._kernels = kernels
        self._packed = _pack(quantized, kernels)
        self._weights = ctypes.byref(self._packed.struct)
        bias = _checked("bias", quantized.bias, (self.out_features,))
        self._base_bias = None if bias is None else bias.data_ptr()
        self.register_buffer("codes", self._packed.codes, persistent=False)
        self.register_buffer("scales", self._packed.scales, persistent=False)
        # Shape, dtype and device are what model code asks for; whoever computes with the values shall notice.
        self._weight = torch.full((1, 1), torch.nan).expand(self.out_features, self.in_features)

    @property
    def weight(self) -> torch.Tensor:
        """A stand-in of the weight's shape and of the activations' dtype; see `dequantized` for the values."""
        return self._weight

    def dequantized(self) -> torch.Tensor:
        """The weight's values, fp32 [out, in], as a new tensor."""
        return self._kernels.library.unpack(self._packed, threads=self._kernels.threads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> [..., out], without adapters."""
        rows = x.numel() // self.in_features
        return self.adapted(x, row_layout([(0, rows, None)] if rows else []))

    def adapted(self, x: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        """x [..., in] -> [..., out], fp32, each row with its form of `layout` (from `row_layout`, for this module).

        Raises:
            ValueError: x is not fp32 on the CPU, or has not the layout's rows.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu" or x.shape[-1] != self.in_features:
            raise ValueError(f"x is {x.dtype} {list(x.shape)} on {x.device}: fp32 [..., {self.in_features}] is needed")
        if x.numel() != layout.rows * self.in_features:
            raise ValueError(f"x {list(x.shape)} has not the {layout.rows} rows of the layout")
        x = x.contiguous()
        y = torch.empty(*x.shape[:-1], self.out_features)
        if layout.rows:
            self._kernels.library.linear(
                self._weights,
                self._base_bias,
                layout.segments,
                layout.bounds,
                layout.adapters,
                x.data_ptr(),
                y.data_ptr(),
                self._kernels.workspace,
                self._kernels.threads,
            )
        return y

    def descriptor(self, form: LinearForm) -> AdapterStruct:
        """What the kernels must know of `form`, with its tensors; one that is not contiguous is copied.

        Raises:
            ValueError: a tensor is not fp32 on the CPU or does not fit this module.
        """
        rank = 0 if form.a is None or form.b is None else form.a.shape[0]
        tensors = (
            _checked("a", form.a, (rank, self.in_features)) if rank else None,
            _checked("b", form.b, (self.out_features, rank)) if rank else None,
            _checked("in_scale", form.in_scale, (self.in_features,)),
            _checked("out_scale", form.out_scale, (self.out_features,)),
            _checked("bias", form.bias, (self.out_features,)),
        )
        addresses = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
        descriptor = AdapterStruct(rank, *addresses, form.scale)
        descriptor.tensors = tensors
        return descriptor


def release_weight(quantized: Linear4bit) -> None:
    """Free the 4-bit weight of a module that was repacked; the module computes nothing any more.

    Dropping the module is not enough: weight and module refer to each other, so both would stay until a collection.
    """
    quantized.weight.data = torch.empty(0, dtype=torch.uint8)
    quantized.weight.quant_state = None  # type: ignore[attr-defined]
    quantized.quant_state = None


def row_layout(segments: Sequence[tuple[int, int, AdapterStruct | None]]) -> RowLayout:
    """Rows of (start, end, adapter), from 0 on without gaps; None is the base.

    Raises:
        ValueError: the segments have a gap, overlap or run backwards.
    """
    at = 0
    for start, end, _ in segments:
        if start != at or end < start:
            raise ValueError(f"segment [{start}, {end}) does not begin at row {at}")
        at = end
    count = len(segments)
    bounds = (ctypes.c_int64 * (count + 1))(0, *(end for _, end, _ in segments))
    adapters = (ctypes.c_void_p * count)(*(None if a is None else ctypes.addressof(a) for _, _, a in segments))
    return RowLayout(at, count, bounds, adapters, tuple(adapter for _, _, adapter in segments))


def _pack(quantized: Linear4bit, kernels: NativeKernels) -> PackedWeights:
    state = quantized.weight.quant_state  # type: ignore[attr-defined]
    if not isinstance(state, QuantState):
        raise ValueError("the linear is not quantised yet")
    return kernels.library.pack(
        quantized.weight.data.contiguous().view(-1),
        _block_scales(state),
        (quantized.out_features, quantized.in_features),
        block_size=state.blocksize,
        book=CodeBook.of(state.code.detach().float().cpu()),
        threads=kernels.threads,
    )


def _block_scales(state: QuantState) -> torch.Tensor:
    """The largest magnitude of each block, fp32; double quantisation is undone."""
    scales: torch.Tensor = state.absmax
    if state.nested:
        scales = dequantize_blockwise(scales, state.state2) + state.offset
    return scales.float().contiguous().view(-1)


def _checked(name: str, tensor: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor | None:
    if tensor is None:
        return None
    if tensor.shape != shape or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}: fp32 {list(shape)} on the CPU is needed"
        )
    return tensor.contiguous()
