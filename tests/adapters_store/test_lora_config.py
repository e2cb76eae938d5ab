"""LoRA configurations: what is refused, with the field and the fix, and what is read."""

import math
from typing import Any

import pytest

from adapters_store.errors import InvalidAdapter
from adapters_store.lora_config import read_lora_config
from adapters_store.module_patterns import MatchingDeadline

MODULE = "model.layers.1.mlp.down_proj"


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("use_dora", True, "use_dora=False"),
        ("modules_to_save", ["lm_head"], "without modules_to_save"),
        ("trainable_token_indices", [1, 2], "without trainable_token_indices"),
        ("trainable_token_indices", {"embed_tokens": [1]}, "without trainable_token_indices"),
        ("lora_bias", True, "lora_bias=False"),
        ("layer_replication", [[0, 2]], "another base"),
        ("fan_in_fan_out", True, "linear layers"),
        ("target_parameters", ["mlp.experts.down_proj"], "target_modules"),
        ("bias", "all", "bias='none'"),
        ("bias", "lora_only", "bias='none'"),
        ("bias", None, "bias='none'"),
        ("alora_invocation_tokens", [5], "activated LoRA"),
        ("use_qalora", True, "QALoRA"),
        ("monteclora_config", {"a": 1}, "MonteCLoRA"),
        ("use_bdlora", {"a": 1}, "block-diagonal"),
        ("arrow_config", {"a": 1}, "Arrow"),
        ("kasa_config", {"a": 1}, "KaSA"),
    ],
)
def test_what_is_not_served_is_refused_by_field_and_reason(field: str, value: object, fix: str) -> None:
    with pytest.raises(InvalidAdapter, match=fix) as refusal:
        read_lora_config({field: value})
    assert refusal.value.param == field
    assert field in refusal.value.message


@pytest.mark.parametrize("field", ["modules_to_save", "target_parameters", "trainable_token_indices"])
@pytest.mark.parametrize("value", [None, []])
def test_an_empty_list_asks_for_nothing(field: str, value: object) -> None:
    read_lora_config({field: value})


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "lora_ga"])
def test_a_raw_initialisation_that_changes_the_base_is_refused_with_the_conversion(init: str) -> None:
    with pytest.raises(InvalidAdapter, match="path_initial_model_for_weight_conversion") as refusal:
        read_lora_config({"init_lora_weights": init})
    assert refusal.value.param == "init_lora_weights"


def test_loftq_is_refused_with_the_way_that_leaves_the_base_alone() -> None:
    with pytest.raises(InvalidAdapter, match="replace_lora_weights_loftq"):
        read_lora_config({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}})


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_an_initialisation_of_the_factors_alone_is_fine(init: object) -> None:
    read_lora_config({"init_lora_weights": init})


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(InvalidAdapter, match="'residual' is not known"):
        read_lora_config({"init_lora_weights": "residual"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("r", -4),
        ("r", 4.0),
        ("r", True),
        ("r", "8"),
        ("r", None),
        ("lora_alpha", "16"),
        ("lora_alpha", None),
        ("lora_alpha", True),
        ("lora_alpha", float("inf")),
        ("lora_alpha", 10**400),
        ("use_rslora", "yes"),
        ("rank_pattern", [8]),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", {"q_proj": 2.5}),
        ("alpha_pattern", {"q_proj": "big"}),
        ("alpha_pattern", {"q_proj": float("nan")}),
        ("target_modules", 3),
        ("target_modules", [3]),
        ("layers_to_transform", "1"),
        ("layers_to_transform", [1.5]),
        ("base_model_name_or_path", ["a"]),
    ],
)
def test_a_malformed_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidAdapter, match=f"^{field} ") as refusal:
        read_lora_config({"target_modules": ["q_proj"], field: value})
    assert refusal.value.param == field


def test_absent_fields_have_pefts_defaults() -> None:
    lora = read_lora_config({})
    assert (lora.rank, lora.alpha, lora.use_rslora, lora.base_name, lora.warnings) == (8, 8.0, False, None, ())


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"r": 4, "lora_alpha": 8, "rank_pattern": {"down_proj": 16}}, 0.5),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {r"layers\.1\..*": 3}}, 0.75),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"q_proj": 3}}, 2.0),
        ({"r": 4, "lora_alpha": 1, "rank_pattern": {"down_proj": 2}, "use_rslora": True}, 1 / math.sqrt(2)),
    ],
)
def test_the_scale_of_a_module_follows_rank_alpha_and_their_patterns(config: dict[str, Any], scale: float) -> None:
    assert read_lora_config(config).scale_of(MODULE, MatchingDeadline()) == pytest.approx(scale)


def test_unknown_fields_that_are_set_give_a_warning() -> None:
    lora = read_lora_config({"future_flag": True, "other_flag": None, "lora_dropout": 0.1})
    assert len(lora.warnings) == 1
    assert "future_flag" in lora.warnings[0]
    assert "other_flag" not in lora.warnings[0]
