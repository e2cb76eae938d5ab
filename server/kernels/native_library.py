"""The shared library of native kernels: finding it, what it can do here, and its functions over torch tensors.

The C++ side (`native/`) trusts what it is given, so every shape, dtype and layout is checked on this side, where a
descriptor is made. A call releases the interpreter's lock for its whole length.
"""

import ctypes
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from server.errors import SwitchyardError
from server.kernels.code_book import CodeBook

LIBRARY = Path(__file__).with_name("native_kernels.so")
GROUP = 16
CHUNK = 64

_INTERFACE = 2
_CODES_PER_WORD = 8
_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


class NativeKernelsUnavailable(SwitchyardError):
    """The native kernels cannot be used here; the message says why and what to do."""


class PackedWeightsStruct(ctypes.Structure):
    """`PackedWeights` of native/layout.h."""

    _fields_ = (
        ("out_features", _INTEGER),
        ("in_features", _INTEGER),
        ("pieces", _INTEGER),
        ("codes", _POINTER),
        ("scales", _POINTER),
        ("book", _POINTER),
        ("rounded_book", _POINTER),
        ("book_limit", ctypes.c_float),
        ("activation_limit", ctypes.c_float),
    )


class AdapterStruct(ctypes.Structure):
    """`Adapter` of native/layout.h, with the tensors that it points to."""

    tensors: tuple[torch.Tensor | None, ...] = ()

    _fields_ = (
        ("rank", _INTEGER),
        ("a", _POINTER),
        ("b", _POINTER),
        ("in_scale", _POINTER),
        ("out_scale", _POINTER),
        ("bias", _POINTER),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """A 4-bit weight [out, in] in the kernels' layout; it keeps the memory that its descriptor points to."""

    out_features: int
    in_features: int
    pieces: int
    codes: torch.Tensor
    scales: torch.Tensor
    book: CodeBook

    @cached_property
    def struct(self) -> PackedWeightsStruct:
        return PackedWeightsStruct(
            self.out_features,
            self.in_features,
            self.pieces,
            self.codes.data_ptr(),
            self.scales.data_ptr(),
            self.book.values.data_ptr(),
            self.book.rounded.data_ptr(),
            self.book.limit,
            self.book.activation_limit,
        )


class NativeLibrary:
    """The loaded library.

    Args:
        path: the shared library.
        instruction_set: the name of one that `instruction_sets` lists; by default the best of this processor.

    Raises:
        NativeKernelsUnavailable: the library is not there, is of another version, or the instruction set is not here.
    """

    def __init__(self, path: Path = LIBRARY, *, instruction_set: str | None = None) -> None:
        if not path.is_file():
            raise NativeKernelsUnavailable(
                f"{path.name} was not built: install a C++ compiler (g++ or clang++) and install switchyard again"
            )
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise NativeKernelsUnavailable(f"{path.name} cannot be loaded: {error}") from error
        self._declare(path)
        self.instruction_sets = self._supported()
        chosen = instruction_set or list(self.instruction_sets)[-1]
        if chosen not in self.instruction_sets:
            raise NativeKernelsUnavailable(
                f"this processor has no {chosen!r}; there is {', '.join(self.instruction_sets)}"
            )
        self.instruction_set = chosen
        self._index = self.instruction_sets[chosen]
        self._linear = self._library.switchyard_linear
        self._widen = self._library.switchyard_widen

    def pack(
        self,
        nibbles: torch.Tensor,
        scales: torch.Tensor,
        shape: tuple[int, int],
        *,
        block_size: int,
        book: CodeBook,
        threads: int,
    ) -> PackedWeights:
        """Repack a weight of `shape` (out, in) from bitsandbytes' storage.

        `nibbles` uint8 [ceil(out * in / 2)] has the even weights in the high halves; `scales` fp32 has one for each
        `block_size` weights.

        Raises:
            ValueError: a tensor does not fit the shape.
        """
        out_features, in_features = shape
        count = out_features * in_features
        if out_features < 1 or in_features < 1 or block_size < 1 or threads < 1:
            raise ValueError(f"cannot pack a weight of shape {shape} with blocks of {block_size}")
        _check("nibbles", nibbles, torch.uint8, (count + 1) // 2)
        _check("scales", scales, torch.float32, -(-count // block_size))
        pieces = _pieces(out_features, in_features, block_size)
        groups, blocks = -(-out_features // GROUP), -(-in_features // CHUNK) * pieces
        packed = PackedWeights(
            out_features,
            in_features,
            pieces,
            torch.empty(groups, blocks, CHUNK // _CODES_PER_WORD, GROUP, dtype=torch.int32),
            torch.empty(groups, blocks, GROUP, dtype=torch.float32),
            book,
        )
        self._library.switchyard_pack(
            ctypes.byref(packed.struct),
            nibbles.data_ptr(),
            scales.data_ptr(),
            block_size,
            book.zero_code,
            packed.codes.data_ptr(),
            packed.scales.data_ptr(),
            threads,
        )
        return packed

    def unpack(self, weights: PackedWeights, *, threads: int) -> torch.Tensor:
        """The dequantised weight, fp32 [out, in]."""
        dense = torch.empty(weights.out_features, weights.in_features)
        self._library.switchyard_unpack(ctypes.byref(weights.struct), dense.data_ptr(), threads)
        return dense

    def linear(
        self,
        weights: "ctypes._CArgObject",
        bias: int | None,
        segments: int,
        bounds: "ctypes.Array[ctypes.c_int64]",
        adapters: "ctypes.Array[ctypes.c_void_p]",
        x: int,
        y: int,
        workspace: "Workspace",
        threads: int,
    ) -> None:
        """`switchyard_linear` of native/library.h, with as much workspace as it asks for."""
        arguments = (self._index, weights, bias, segments, bounds, adapters, x, y)
        needed = self._linear(*arguments, workspace.pointer, workspace.size, threads)
        if needed:
            workspace.grow(needed)
            self._linear(*arguments, workspace.pointer, workspace.size, threads)

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        """`to.copy_(source)` for flat tensors; fp16 into fp32 goes past the caches, which a running step needs."""
        widens = source.dtype is torch.float16 and to.dtype is torch.float32 and source.is_cpu and to.is_cpu
        plain = source.shape == to.shape and source.is_contiguous() and to.is_contiguous()
        if not (widens and plain and self._widen(self._index, source.data_ptr(), to.data_ptr(), to.numel())):
            to.copy_(source)

    def _declare(self, path: Path) -> None:
        library = self._library
        library.switchyard_interface.restype = _INTEGER
        if library.switchyard_interface() != _INTERFACE:
            raise NativeKernelsUnavailable(f"{path.name} was built from another version: install switchyard again")
        library.switchyard_instruction_set.restype = ctypes.c_char_p
        library.switchyard_instruction_set.argtypes = (_INTEGER,)
        library.switchyard_supported.restype = _INTEGER
        library.switchyard_supported.argtypes = (_INTEGER,)
        library.switchyard_pack.restype = None
        library.switchyard_pack.argtypes = (
            *(_POINTER, _POINTER, _POINTER, _INTEGER, _INTEGER, _POINTER, _POINTER),
            _INTEGER,
        )
        library.switchyard_unpack.restype = None
        library.switchyard_unpack.argtypes = (_POINTER, _POINTER, _INTEGER)
        library.switchyard_widen.restype = _INTEGER
        library.switchyard_widen.argtypes = (_INTEGER, _POINTER, _POINTER, _INTEGER)
        library.switchyard_linear.restype = _INTEGER
        library.switchyard_linear.argtypes = (
            *(_INTEGER, _POINTER, _POINTER, _INTEGER, _POINTER, _POINTER, _POINTER, _POINTER),
            *(_POINTER, _INTEGER, _INTEGER),
        )

    def _supported(self) -> dict[str, int]:
        names: dict[str, int] = {}
        index = 0
        while (name := self._library.switchyard_instruction_set(index)) is not None:
            if self._library.switchyard_supported(index):
                names[name.decode()] = index
            index += 1
        return names


class Workspace:
    """Memory for the intermediate values of calls, one at a time; it grows to what the largest call needs."""

    def __init__(self) -> None:
        self.pointer: int | None = None
        self.size = 0
        self._memory = torch.empty(0, dtype=torch.uint8)

    def grow(self, size: int) -> None:
        """Make it at least `size` bytes, aligned to a cache line; what it held is lost."""
        self._memory = torch.empty(size + CHUNK, dtype=torch.uint8)
        start = self._memory.data_ptr()
        self.pointer = -(-start // CHUNK) * CHUNK
        self.size = start + self._memory.nbytes - self.pointer


def _pieces(out_features: int, in_features: int, block_size: int) -> int:
    """The most quantisation blocks that any chunk of any output reaches into."""
    starts = torch.arange(out_features)[:, None] * in_features + torch.arange(0, in_features, CHUNK)
    ends = torch.minimum(starts + CHUNK, (torch.arange(out_features)[:, None] + 1) * in_features) - 1
    return int((ends // block_size - starts // block_size).max()) + 1


def _check(name: str, tensor: torch.Tensor, dtype: torch.dtype, count: int) -> None:
    if tensor.dtype != dtype or tensor.numel() != count or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}: "
            f"{dtype} with {count} elements, contiguous and on the CPU, is needed"
        )
