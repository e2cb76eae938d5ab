"""Weights files: every way a header or a value can be wrong, found before anything else reads the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_store import safetensors_file
from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.safetensors_file import MAX_HEADER_BYTES, SafetensorsFile, open_safetensors
from tests.adapters_store.hand_made import Tensor, float32, from_array, header_of, safetensors_bytes

TENSORS = {"a": float32(2, 3), "b": float32(4, seed=1)}


def opened(directory: Path, content: bytes, max_bytes: int = 1 << 20, max_tensors: int = 100) -> SafetensorsFile:
    path = directory / "adapter_model.safetensors"
    path.write_bytes(content)
    return open_safetensors(path, max_bytes=max_bytes, max_tensors=max_tensors)


def test_a_sound_file_gives_its_tensors(tmp_path: Path) -> None:
    weights = opened(tmp_path, safetensors_bytes(TENSORS))
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in weights.tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F32", (4,)),
    }
    assert weights.tensors["b"].size_bytes == 16
    weights.check_finite()


def test_a_file_by_the_safetensors_library_opens(tmp_path: Path) -> None:
    from safetensors.numpy import save

    arrays: dict[str, npt.NDArray[Any]] = {"half": np.ones((3, 5), np.float16), "single": np.ones((2,), np.float32)}
    weights = opened(tmp_path, save(arrays, metadata={"format": "pt"}))
    assert {name: tensor.shape for name, tensor in weights.tensors.items()} == {"half": (3, 5), "single": (2,)}
    weights.check_finite()


@pytest.mark.parametrize("kept", [0, 7, 8, 40, -1])
def test_a_cut_file_is_called_truncated(tmp_path: Path, kept: int) -> None:
    with pytest.raises(InvalidAdapter, match="is truncated"):
        opened(tmp_path, safetensors_bytes(TENSORS)[:kept])


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="3 bytes after"):
        opened(tmp_path, safetensors_bytes(TENSORS) + b"xyz")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="announces a header of"):
        opened(tmp_path, (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(InvalidAdapter, match="announces a header of"):
        opened(tmp_path, b"\xff" * 64)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"1", b"\xff\xfe", b'{"a":' * 100_000, b'{"a":1,"a":2}'])
def test_a_header_that_is_no_json_object_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(InvalidAdapter, match="header"):
        opened(tmp_path, safetensors_bytes({}, header=header))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dtype": "F64"}, "dtype 'F64'; adapters are served in F32, F16, BF16"),
        ({"dtype": "I8"}, "dtype 'I8'"),
        ({"dtype": None}, "dtype None"),
        ({"dtype": ["F32"]}, "dtype"),
        ({"shape": [2, -3]}, "not a list of up to"),
        ({"shape": [2, 3.0]}, "not a list of up to"),
        ({"shape": [True, 6]}, "not a list of up to"),
        ({"shape": "6"}, "not a list of up to"),
        ({"shape": [1] * 100}, "not a list of up to"),
        ({"shape": [2, 4]}, "needs 32 bytes"),
        ({"shape": [2**62, 2**62]}, "needs"),
        ({"data_offsets": [0]}, "not \\[begin, end\\]"),
        ({"data_offsets": [24, 0]}, "not \\[begin, end\\]"),
        ({"data_offsets": [-24, 0]}, "not \\[begin, end\\]"),
        ({"data_offsets": [4, 28]}, "leaves a hole"),
        ({"data_offsets": [16, 40]}, "overlaps|hole"),
        ({"data_offsets": [1 << 40, (1 << 40) + 24]}, "leaves a hole"),
    ],
)
def test_a_tensor_that_does_not_add_up_is_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    header = header_of(TENSORS)
    header["a"] |= change
    with pytest.raises(InvalidAdapter, match=complaint) as refusal:
        opened(tmp_path, safetensors_bytes(TENSORS, header=header))
    assert refusal.value.param in ("a", "b")


def test_two_tensors_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    header = header_of({"a": TENSORS["a"]})
    header["b"] = header["a"]
    with pytest.raises(InvalidAdapter, match="overlaps another"):
        opened(tmp_path, safetensors_bytes({"a": TENSORS["a"]}, header=header))


def test_a_tensor_that_is_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="not described by an object"):
        opened(tmp_path, safetensors_bytes({}, header={"a": []}))


def test_long_names_do_not_make_long_messages(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="longer than 512") as refusal:
        opened(tmp_path, safetensors_bytes({"x" * 100_000: float32(1)}))
    assert len(refusal.value.message) < 300


def test_limits_on_bytes_and_tensors(tmp_path: Path) -> None:
    content = safetensors_bytes(TENSORS)
    opened(tmp_path, content, max_bytes=len(content), max_tensors=2)
    with pytest.raises(AdapterTooLarge, match=f"{len(content)} bytes, more than the {len(content) - 1}"):
        opened(tmp_path, content, max_bytes=len(content) - 1)
    with pytest.raises(AdapterTooLarge, match="2 tensors, more than the 1"):
        opened(tmp_path, content, max_tensors=1)


def bfloat16(values: Any) -> Tensor:
    bits = np.asarray(values, np.float32).view(np.uint32) >> 16
    return from_array("BF16", bits.astype("<u2"))


LARGEST = {
    "F32": float(np.finfo(np.float32).max),
    "F16": float(np.finfo(np.float16).max),
    "BF16": 3.3895313892515355e38,
}


def in_dtype(dtype: str, values: Any) -> Tensor:
    if dtype == "BF16":
        return bfloat16(values)
    return from_array(dtype, np.asarray(values, {"F32": "<f4", "F16": "<f2"}[dtype]))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_in_every_dtype(tmp_path: Path, dtype: str, bad: float) -> None:
    largest = LARGEST[dtype]
    finite = in_dtype(dtype, [[0.0, -0.0, 1.0], [largest, -largest, 1e-7]])
    opened(tmp_path, safetensors_bytes({"fine": finite})).check_finite()
    broken = in_dtype(dtype, [[0.0, 1.0, 2.0], [0.0, bad, 0.0]])
    weights = opened(tmp_path, safetensors_bytes({"fine": finite, "broken": broken}))
    with pytest.raises(InvalidAdapter, match=r"'broken' holds NaN or an infinity, first at \[1, 1\]") as refusal:
        weights.check_finite()
    assert refusal.value.param == "broken"


def test_a_bad_value_beyond_the_first_chunk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "_CHUNK_BYTES", 64)
    values = np.zeros((10, 10), "<f4")
    values[7, 3] = np.inf
    with pytest.raises(InvalidAdapter, match=r"first at \[7, 3\]"):
        opened(tmp_path, safetensors_bytes({"a": from_array("F32", values)})).check_finite()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(safetensors_bytes(TENSORS))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position : position + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        weights = opened(tmp_path, bytes(content))
        weights.check_finite()
    except InvalidAdapter:
        return
    assert sum(tensor.size_bytes for tensor in weights.tensors.values()) <= len(content)


def test_names_with_lone_surrogates_do_not_break_the_message(tmp_path: Path) -> None:
    header = json.dumps({"\ud800": {"dtype": "F64"}}).encode()
    with pytest.raises(InvalidAdapter) as refusal:
        opened(tmp_path, safetensors_bytes({}, header=header))
    refusal.value.message.encode()
