"""A directory's two files against each other, the base and the limits."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_store.base_description import BaseDescription
from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.metadata import AdapterMetadata
from adapters_store.validation import validate_adapter
from tests.adapters_store.hand_made import (
    BASE,
    DOWN,
    QUERY,
    Tensor,
    float32,
    from_array,
    lora_pair,
    lora_tensors,
    write_adapter,
)

A_KEY = f"base_model.model.{QUERY}.lora_A.weight"
B_KEY = f"base_model.model.{QUERY}.lora_B.weight"


def validate(directory: Path, base: BaseDescription | None = BASE, limits: Limits | None = None) -> AdapterMetadata:
    return validate_adapter(directory, base=base, limits=limits or Limits())


def test_a_sound_adapter_is_described(tmp_path: Path) -> None:
    assert validate(write_adapter(tmp_path)) == AdapterMetadata(
        method="lora",
        rank_min=4,
        rank_max=4,
        modules_by_rank={4: 2},
        parameters=4 * (8 + 8) + 4 * (16 + 8),
        tensor_bytes=4 * (4 * (8 + 8) + 4 * (16 + 8)),
        dtype="F32",
        base_name="org/tiny",
        target_modules=("down_proj", "q_proj"),
        warnings=(),
    )


@pytest.mark.parametrize(
    ("trained_on", "warns"),
    [
        ("org/Tiny", False),
        ("/root/.cache/switchyard/bases/tiny-nf4-fce10d28a7db7923", False),
        ("/models/tiny-instruct", True),
        ("org/other", True),
    ],
)
def test_another_base_than_the_one_served_is_a_warning(tmp_path: Path, trained_on: str, warns: bool) -> None:
    base = dataclasses.replace(BASE, name="org/tiny")
    adapter = write_adapter(tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": trained_on}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert any("trained on" in warning for warning in validate(adapter, base).warnings) is warns


def test_ranks_by_pattern_are_counted(tmp_path: Path) -> None:
    tensors = lora_pair(QUERY, 8, 8, rank=4) | lora_pair(DOWN, 8, 16, rank=2)
    metadata = validate(write_adapter(tmp_path, tensors=tensors, config={"rank_pattern": {"mlp.down_proj": 2}}))
    assert (metadata.rank_min, metadata.rank_max, metadata.modules_by_rank) == (2, 4, {2: 1, 4: 1})


def test_mixed_dtypes_are_named(tmp_path: Path) -> None:
    tensors = lora_tensors()
    tensors[A_KEY] = from_array("F16", np.ones((4, 8), "<f2"))
    assert validate(write_adapter(tmp_path, tensors=tensors)).dtype == "F16+F32"


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({}, "holds no tensor"),
        ({A_KEY: float32(4, 8)}, "has lora_A and no lora_B"),
        ({B_KEY: float32(8, 4)}, "has lora_B and no lora_A"),
        (lora_pair(QUERY, 8, 8, rank=8), "has rank 8, and r and rank_pattern .* say 4"),
        (lora_pair(QUERY, 8, 9), "for 9 inputs, and that module of the base org/tiny has 8"),
        (lora_pair(QUERY, 7, 8), "for 7 outputs, and that module of the base org/tiny has 8"),
        ({A_KEY: float32(4, 8), B_KEY: float32(8, 3)}, "has rank 3 and its lora_A has rank 4"),
        ({A_KEY: float32(4), B_KEY: float32(8, 4)}, "should be a matrix"),
        ({A_KEY: float32(4, 8, 1), B_KEY: float32(8, 4)}, "should be a matrix"),
        ({A_KEY: float32(0, 8), B_KEY: float32(8, 0)}, "should be a matrix"),
        (lora_pair("model.layers.7.self_attn.q_proj", 8, 8), "has no linear module of that name"),
        (lora_pair("model.layers.1.self_attn.q_proj", 8, 8), "target_modules does not name"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, Tensor], complaint: str
) -> None:
    directory = write_adapter(tmp_path, tensors=tensors)
    with pytest.raises(InvalidAdapter, match=complaint) as refusal:
        validate(directory)
    assert refusal.value.param in {*tensors, None}


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (f"base_model.model.{QUERY}.lora_magnitude_vector", "DoRA"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "embeddings"),
        ("base_model.model.model.embed_tokens.base_layer.weight", "save_embedding_layers=False"),
        (f"base_model.model.{QUERY}.lora_B.bias", "lora_bias=False"),
        (f"base_model.model.{QUERY}.lora_E", "AdaLoRA"),
        (f"base_model.model.{QUERY}.lora_A.default.weight", "save_pretrained"),
        (f"{QUERY}.lora_A.weight", "expected base_model.model.<module>.lora_A.weight"),
        ("base_model.model.lm_head.weight", "expected base_model.model.<module>.lora_A.weight"),
    ],
)
def test_a_foreign_tensor_is_refused_with_what_it_tells(tmp_path: Path, key: str, hint: str) -> None:
    directory = write_adapter(tmp_path, tensors={**lora_tensors(), key: float32(4, 8)})
    with pytest.raises(InvalidAdapter, match=hint) as refusal:
        validate(directory)
    assert refusal.value.param == key


def test_a_rank_beyond_the_limit_is_too_large(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path)
    validate(directory, limits=Limits(max_rank=4))
    with pytest.raises(AdapterTooLarge, match="rank 4, more than the 3 allowed"):
        validate(directory, limits=Limits(max_rank=3))


def test_a_scale_that_no_float_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="F32 cannot hold") as refusal:
        validate(write_adapter(tmp_path, config={"lora_alpha": 1e300}))
    assert refusal.value.param == "lora_alpha"


def test_a_value_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = lora_tensors()
    tensors[B_KEY] = from_array("F32", np.full((8, 4), np.nan, "<f4"))
    with pytest.raises(InvalidAdapter, match="NaN") as refusal:
        validate(write_adapter(tmp_path, tensors=tensors))
    assert refusal.value.param == B_KEY


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'"LORA"', b"\xff", b'{"r": NaN}', b'{"r": Infinity}', b"[" * 100_000, b"9" * 5000]
)
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(InvalidAdapter, match=r"adapter_config\.json is not") as refusal:
        validate(write_adapter(tmp_path, config=text))
    assert refusal.value.param == "adapter_config.json"


@pytest.mark.parametrize("peft_type", ["IA3", "VERA", "PREFIX_TUNING", "lora", None, ["LORA"], 3])
def test_other_methods_are_refused_with_what_is_served(tmp_path: Path, peft_type: object) -> None:
    with pytest.raises(InvalidAdapter, match="served today: LORA") as refusal:
        validate(write_adapter(tmp_path, config={"peft_type": peft_type}))
    assert refusal.value.param == "peft_type"


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    validate(write_adapter(tmp_path, config={"task_type": None}))
    for task_type in ("SEQ_CLS", ["CAUSAL_LM"]):
        with pytest.raises(InvalidAdapter, match="task_type") as refusal:
            validate(write_adapter(tmp_path, config={"task_type": task_type}))
        assert refusal.value.param == "task_type"


@pytest.mark.parametrize(
    ("base_name", "warned"), [("org/tiny", 0), ("/home/me/models/Tiny/", 0), (None, 0), ("org/other", 1)]
)
def test_another_base_name_is_a_warning_only(tmp_path: Path, base_name: str | None, warned: int) -> None:
    warnings = validate(write_adapter(tmp_path, config={"base_model_name_or_path": base_name})).warnings
    assert len(warnings) == warned
    assert all("org/other" in warning and "org/tiny" in warning for warning in warnings)


def test_without_a_base_shapes_go_unchecked_and_a_warning_says_so(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path, tensors=lora_pair(QUERY, 700, 800))
    assert "not checked against a base" in " ".join(validate(directory, base=None).warnings)


def test_targets_of_the_base_without_tensors_are_a_warning(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path, config={"target_modules": ["q_proj", "down_proj"]})
    (warning,) = validate(directory).warnings
    assert "1 modules without tensors, the first model.layers.1.self_attn.q_proj" in warning


def test_messages_stay_short_whatever_a_file_holds(tmp_path: Path) -> None:
    huge: dict[str, Any] = {"init_lora_weights": "x" * 100_000}
    with pytest.raises(InvalidAdapter) as refusal:
        validate(write_adapter(tmp_path, config=json.dumps({"peft_type": "LORA", **huge}).encode()))
    assert len(refusal.value.message) < 400
