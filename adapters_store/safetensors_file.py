"""Reading a safetensors file without trusting it: its header, and whether every value is finite.

Layout (safetensors' format document): 8 bytes little-endian header length, the header as JSON
(`{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {…}}`), then the data; offsets count from
the start of the data, and tensors lie back to back without holes.
"""

import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from adapters_store.adapter_files import open_regular
from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.quoting import quoted

MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
MAX_TENSOR_NAME_CHARS: Final = 512
_MAX_DIMENSIONS = 8
_LENGTH_BYTES = 8
_CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _FloatFormat:
    """A served dtype: its bits as a numpy integer, and the mask of its exponent. All exponent bits: NaN or Inf."""

    bits: npt.DTypeLike
    exponent: int

    @property
    def size(self) -> int:
        return np.dtype(self.bits).itemsize


_FORMATS: Final[Mapping[str, _FloatFormat]] = {
    "F32": _FloatFormat("<u4", 0x7F80_0000),
    "F16": _FloatFormat("<u2", 0x7C00),
    "BF16": _FloatFormat("<u2", 0x7F80),
}
SERVED_DTYPES: Final = tuple(_FORMATS)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: safetensors dtype, shape, and where its bytes lie, from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A file whose header was checked: every tensor has a served dtype and bytes of its own in the file."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    def check_finite(self) -> None:
        """Read every value, a chunk at a time.

        Raises:
            InvalidAdapter: a tensor holds NaN or an infinity; `param` names it.
        """
        with open_regular(self.path) as file:
            for tensor in sorted(self.tensors.values(), key=lambda tensor: tensor.begin):
                _check_tensor_finite(file, tensor, self.path.name)


def open_safetensors(path: Path, *, max_bytes: int, max_tensors: int) -> SafetensorsFile:
    """Read and check a file's header; its data is not read.

    Raises:
        AdapterTooLarge: the file has more bytes or tensors than allowed.
        InvalidAdapter: the header is malformed, a dtype is not served, or the file is truncated.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise AdapterTooLarge(f"{path.name} has {size} bytes, more than the {max_bytes} allowed", param=path.name)
        header, data_start = _read_header(file, size, path.name)
    if len(header) > max_tensors:
        raise AdapterTooLarge(
            f"{path.name} has {len(header)} tensors, more than the {max_tensors} allowed", param=path.name
        )
    tensors = {name: _tensor_info(name, value, data_start) for name, value in header.items()}
    _check_layout(tensors.values(), data_start, size, path.name)
    return SafetensorsFile(path, tensors)


def tensors_in(content: memoryview, file_name: str) -> dict[str, TensorInfo]:
    """The tensors of a whole file in memory, by name; nothing is copied but the header.

    Raises:
        InvalidAdapter: the header is malformed, a dtype is not served, or the file is truncated.
    """
    announced = int.from_bytes(content[:_LENGTH_BYTES], "little")
    head = io.BytesIO(content[: _LENGTH_BYTES + min(announced, MAX_HEADER_BYTES)])
    header, data_start = _read_header(head, len(content), file_name)
    tensors = {name: _tensor_info(name, value, data_start) for name, value in header.items()}
    _check_layout(tensors.values(), data_start, len(content), file_name)
    return tensors


def _read_header(file: BinaryIO, size: int, file_name: str) -> tuple[dict[str, Any], int]:
    """The header without its metadata, and the offset of the data."""
    length_bytes = file.read(_LENGTH_BYTES)
    if len(length_bytes) < _LENGTH_BYTES:
        raise _truncated(file_name, f"it has {size} bytes, not even a header length")
    length = int.from_bytes(length_bytes, "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidAdapter(
            f"{file_name} announces a header of {length} bytes, more than the {MAX_HEADER_BYTES} allowed: "
            "it is not a safetensors file",
            param=file_name,
        )
    text = file.read(length)
    if len(text) < length:
        raise _truncated(file_name, f"its header should have {length} bytes and has {len(text)}")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{file_name} has a header that is not JSON: {error}", param=file_name) from error
    if not isinstance(header, dict):
        raise InvalidAdapter(f"{file_name} has a header that is not a JSON object", param=file_name)
    header.pop("__metadata__", None)
    return header, _LENGTH_BYTES + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _tensor_info(name: str, value: object, data_start: int) -> TensorInfo:
    if len(name) > MAX_TENSOR_NAME_CHARS:
        raise InvalidAdapter(f"tensor name {quoted(name)} is longer than {MAX_TENSOR_NAME_CHARS} characters")
    if not isinstance(value, dict):
        raise InvalidAdapter(f"tensor {quoted(name)} is not described by an object", param=name)
    dtype, shape, offsets = value.get("dtype"), _sizes(value.get("shape")), _sizes(value.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _FORMATS:
        raise InvalidAdapter(
            f"tensor {quoted(name)} has dtype {quoted(dtype)}; adapters are served in {', '.join(SERVED_DTYPES)}: "
            "convert it (for example `model.to(torch.float32)`) and save again",
            param=name,
        )
    if shape is None:
        raise InvalidAdapter(
            f"tensor {quoted(name)} has shape {quoted(value.get('shape'))}, which is not a list of up to "
            f"{_MAX_DIMENSIONS} sizes",
            param=name,
        )
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InvalidAdapter(
            f"tensor {quoted(name)} has data_offsets {quoted(value.get('data_offsets'))}, which are not [begin, end]",
            param=name,
        )
    tensor = TensorInfo(name, dtype, shape, data_start + offsets[0], data_start + offsets[1])
    expected = tensor.elements * _FORMATS[dtype].size
    if tensor.size_bytes != expected:
        raise InvalidAdapter(
            f"tensor {quoted(name)} of shape {list(shape)} in {dtype} needs {expected} bytes, "
            f"and its data_offsets give it {tensor.size_bytes}",
            param=name,
        )
    return tensor


def _sizes(value: object) -> tuple[int, ...] | None:
    """A short list of sizes as a tuple; None where the value is not one."""
    if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
        return None
    return tuple(value) if all(type(item) is int and 0 <= item < 2**63 for item in value) else None


def _check_layout(tensors: Iterable[TensorInfo], data_start: int, size: int, file_name: str) -> None:
    """Tensors lie back to back from the start of the data to the end of the file."""
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != position:
            what = "overlaps another" if tensor.begin < position else "leaves a hole before it"
            raise InvalidAdapter(f"tensor {quoted(tensor.name)} {what} in {file_name}", param=tensor.name)
        position = tensor.end
    if size < position:
        raise _truncated(file_name, f"it should have {position} bytes and has {size}")
    if size > position:
        raise InvalidAdapter(f"{file_name} has {size - position} bytes after its last tensor", param=file_name)


def _check_tensor_finite(file: BinaryIO, tensor: TensorInfo, file_name: str) -> None:
    float_format = _FORMATS[tensor.dtype]
    mask = np.array(float_format.exponent, dtype=float_format.bits)
    file.seek(tensor.begin)
    remaining = tensor.size_bytes
    while remaining:
        chunk = file.read(min(remaining, _CHUNK_BYTES))
        if len(chunk) < min(remaining, _CHUNK_BYTES):
            raise _truncated(file_name, f"tensor {quoted(tensor.name)} ends early")
        bits = np.frombuffer(chunk, dtype=float_format.bits)
        bad = np.flatnonzero((bits & mask) == mask)
        if bad.size:
            index = (tensor.size_bytes - remaining) // float_format.size + int(bad[0])
            position = [int(i) for i in np.unravel_index(index, tensor.shape)]
            raise InvalidAdapter(
                f"tensor {quoted(tensor.name)} holds NaN or an infinity, first at {position}: training diverged or the "
                f"dtype overflowed; take an earlier checkpoint or save in F32",
                param=tensor.name,
            )
        remaining -= len(chunk)


def _truncated(file_name: str, reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{file_name} is truncated: {reason}; copy or save it again", param=file_name)
