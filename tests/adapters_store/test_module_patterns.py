"""Patterns over module names: PEFT's own functions are the oracle, and none may cost more than it should."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from adapters_store.errors import InvalidAdapter
from adapters_store.lora_config import read_lora_config
from adapters_store.module_patterns import MatchingDeadline, PatternValues, compile_pattern

MODULES = [
    "lm_head",
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.q_proj",
    "model.layers.10.self_attn.v_proj",
    "model.layers.1.mlp.down_proj",
    "model.layers.1.mlp.experts.0.down_proj",
    "model.vision.layers.1.q_proj",
    "q_proj",
    "my_q_proj",
]

PATTERNS = [
    "q_proj",
    "self_attn.q_proj",
    "model.layers.1.self_attn.q_proj",
    "^model.layers.0.self_attn.q_proj",
    r"layers\.[01]\..*",
    r".*\.layers\.\d+\.mlp\.down_proj",
    "q_proj|v_proj",
    "(?:layers.1.).*",
    "proj",
    "",
]


@given(st.lists(st.sampled_from(PATTERNS), unique=True), st.sampled_from(MODULES))
def test_pattern_values_are_pefts(patterns: list[str], module: str) -> None:
    values = {pattern: rank for rank, pattern in enumerate(patterns, start=1)}
    expected = values.get(get_pattern_key(list(values), module), 99)
    assert PatternValues.compile("rank_pattern", values).value_for(module, 99, MatchingDeadline()) == expected


TARGETS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj", "model.layers.1.mlp.down_proj"]},
    {"target_modules": []},
    {"target_modules": r".*\.self_attn\.(q|v)_proj"},
    {"target_modules": "q_proj"},
    {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["self_attn.q_proj"]},
    {"target_modules": ["q_proj", "down_proj"], "exclude_modules": r".*\.1\..*"},
    {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": 1},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 10]},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1], "layers_pattern": ["blocks", "model.layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
]


@pytest.mark.parametrize("config", TARGETS)
@pytest.mark.parametrize("module", MODULES)
def test_target_modules_are_pefts(config: dict[str, Any], module: str) -> None:
    fields = {"target_modules": None, "exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
    oracle = SimpleNamespace(**{**fields, **config}, target_parameters=None)
    found = check_target_module_exists(oracle, module)
    expected = isinstance(found, bool | re.Match) and bool(found)
    targets = read_lora_config(config).targets
    assert targets is not None
    assert targets.matches(module, MatchingDeadline()) == expected


@pytest.mark.parametrize("config", [{}, {"target_modules": None}, {"target_modules": "all-linear"}])
def test_targets_that_peft_chooses_are_left_open(config: dict[str, Any]) -> None:
    assert read_lora_config(config).targets is None


@pytest.mark.parametrize("name", ["a|layers", "layers\\.", "", "(a+)+", "a*"])
def test_names_of_layer_lists_are_plain(name: str) -> None:
    config = {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": [name]}
    with pytest.raises(InvalidAdapter, match="is not a plain name") as refusal:
        read_lora_config(config)
    assert refusal.value.param == "layers_pattern"


def test_names_of_layer_lists_are_few() -> None:
    config = {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["layers"] * 65}
    with pytest.raises(InvalidAdapter, match="65 names, more than the 64 allowed"):
        read_lora_config(config)


def test_a_refused_expression_names_the_field_and_quotes_little() -> None:
    with pytest.raises(InvalidAdapter, match="repeats a group") as refusal:
        compile_pattern("rank_pattern", "(a+)+" * 200)
    assert refusal.value.param == "rank_pattern"
    assert len(refusal.value.message) < 300


def test_each_pattern_has_the_deadline_before_it() -> None:
    patterns = PatternValues.compile("rank_pattern", {"q_proj": 1, "k_proj": 2})
    with pytest.raises(InvalidAdapter, match="rank_pattern takes too long"):
        patterns.value_for("q_proj", 8, MatchingDeadline(seconds=-1))
