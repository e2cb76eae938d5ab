"""An adapter directory is read by the reader of its method."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters_store.adapter_files import ADAPTER_FILES, WEIGHTS_FILE
from adapters_store.errors import InvalidAdapter
from server.adapters.formats import read_adapter
from tests.adapters.peft_directory import host_form, read_directory
from tests.adapters_store.hand_made import BASE, CONFIG, DOWN, QUERY, from_array, lora_tensors, write_adapter


def test_a_lora_directory_becomes_a_form_of_what_is_stored_and_computes_in_the_dtype_asked_for(tmp_path: Path) -> None:
    half = {
        key: from_array("F16", np.frombuffer(tensor.data, "<f4").reshape(tensor.shape).astype("<f2"))
        for key, tensor in lora_tensors().items()
    }
    directory = write_adapter(tmp_path, tensors=half)
    for form, dtype in (
        (host_form(directory, BASE.modules), torch.float16),
        (read_directory(directory, BASE.modules), torch.float32),
    ):
        assert set(form.linears) == {QUERY, DOWN}
        for linear in form.linears.values():
            assert {(tensor.dtype, tensor.device.type) for tensor in linear.tensors()} == {(dtype, "cpu")}


@pytest.mark.parametrize("aligned", [True, False])
def test_the_tensors_are_views_of_the_content_that_was_read_where_it_is_aligned(tmp_path: Path, aligned: bool) -> None:
    dtypes = itertools.cycle([("F16", "<f2"), ("F32", "<f4")])
    mixed = {}
    for key, tensor in lora_tensors().items():
        name, dtype = next(dtypes)
        mixed[key] = from_array(name, np.frombuffer(tensor.data, "<f4").reshape(tensor.shape).astype(dtype))
    directory = write_adapter(tmp_path, tensors=mixed)
    expected = load_file(directory / WEIGHTS_FILE)
    if aligned:
        save_file(expected, directory / WEIGHTS_FILE)
    files = {name: memoryview(bytearray((directory / name).read_bytes())) for name in ADAPTER_FILES}
    form = read_adapter(files, BASE.modules)
    for name, linear in form.linears.items():
        assert linear.a is not None
        assert linear.b is not None
        assert torch.equal(linear.a, expected[f"base_model.model.{name}.lora_A.weight"])
        assert torch.equal(linear.b, expected[f"base_model.model.{name}.lora_B.weight"])
    assert form.size_bytes == sum(tensor.nbytes for tensor in expected.values())
    files[WEIGHTS_FILE][-form.size_bytes :] = bytes(form.size_bytes)
    gone = not any(tensor.any() for linear in form.linears.values() for tensor in linear.tensors())
    assert gone is aligned


def test_the_form_does_not_change_with_the_file(tmp_path: Path) -> None:
    form = read_directory(write_adapter(tmp_path), BASE.modules)
    before = [tensor.clone() for linear in form.linears.values() for tensor in linear.tensors()]
    weights = tmp_path / "adapter_model.safetensors"
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))
    after = [tensor for linear in form.linears.values() for tensor in linear.tensors()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("method", ["IA3", "lora", None])
def test_another_method_is_refused_and_the_message_names_it_and_the_known_ones(
    tmp_path: Path, method: str | None
) -> None:
    with pytest.raises(InvalidAdapter, match=rf"{method}' is not served; known: LORA") as caught:
        read_directory(write_adapter(tmp_path, config={"peft_type": method}), BASE.modules)
    assert caught.value.param == "peft_type"


def test_a_configuration_without_a_method_is_refused(tmp_path: Path) -> None:
    config = json.dumps({name: value for name, value in CONFIG.items() if name != "peft_type"})
    with pytest.raises(InvalidAdapter, match="not served"):
        read_directory(write_adapter(tmp_path, config=config.encode()), BASE.modules)


@pytest.mark.parametrize("text", ["[]", "3", '"LORA"', "null"])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidAdapter, match="no JSON object") as caught:
        read_directory(write_adapter(tmp_path, config=text.encode()), BASE.modules)
    assert caught.value.param == "adapter_config.json"
