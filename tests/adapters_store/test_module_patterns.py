"""Patterns over module names: PEFT's own functions are the oracle, and none may cost more than it should."""

import re
import time
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
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1], "layers_pattern": ["a|layers"]},
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


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.layers\.([0-9]|1[0-9])\..*_proj",
        r"(?:.*?(?:vision|language).*?(?:self_attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp)",
        r"^(?!.*lm_head).*(?:q_proj|k_proj)",
        r"(model\.)?layers\.\d+\.q_proj",
        r"[)*+]x",
        r"\)+x",
        "a{2}b",
    ],
)
def test_expressions_in_use_are_accepted(pattern: str) -> None:
    assert compile_pattern("target_modules", pattern).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("(a+)+$", "repeats a group"),
        ("(a|a)*", "repeats a group"),
        ("(?:a+){10}", "repeats a group"),
        ("((a+))+?", "repeats a group"),
        ("a+)+(b", "repeats a group"),
        ("(?x:(a+) + )", "other than"),
        ("(?x)(a+) +", "other than"),
        ("(?i)q_proj", "other than"),
        ("(?P<n>a)", "other than"),
        ("(?>a)", "other than"),
        ("(a)(?(1)b|c)", "other than"),
        ("{2}a", "repeats a group"),
        ("[^]](a+)+", "repeats a group"),
        (".*.*.*.*.*.*x", "more than 5"),
        ("a?" * 30 + "a" * 30, "more than 5"),
        ("(a", "not a regular expression"),
        ("a)|(b", "not a regular expression"),
        ("a{1,99999999999}", "not a regular expression"),
        ("x" * 1025, "longer than 1024"),
    ],
)
def test_expressions_that_could_hang_the_process_are_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(InvalidAdapter, match=complaint) as refusal:
        compile_pattern("rank_pattern", pattern)
    assert refusal.value.param == "rank_pattern"
    assert len(refusal.value.message) < 300


def test_the_worst_expression_let_through_is_soon_done() -> None:
    pattern = PatternValues.compile("rank_pattern", {".*" * 5 + "!": 1})
    began = time.monotonic()
    assert pattern.value_for("model.layers.10.self_attn.q_proj", 8, MatchingDeadline()) == 8
    assert time.monotonic() - began < 10


def test_matching_as_a_whole_has_a_deadline() -> None:
    pattern = PatternValues.compile("rank_pattern", {"q_proj": 1})
    with pytest.raises(InvalidAdapter, match="takes too long"):
        pattern.value_for("v_proj", 8, MatchingDeadline(seconds=-1))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(st.text(alphabet="()[]{}*+?|\\^$.:=!<>Paxi1,- \n#", max_size=24))
def test_an_accepted_expression_repeats_no_group(pattern: str) -> None:
    """The check reads the text; Python's own parse tree is the oracle."""
    try:
        compile_pattern("target_modules", pattern)
    except InvalidAdapter:
        return
    assert not _repeats_a_group(re._parser.parse(pattern))  # type: ignore[attr-defined]


def _repeats_a_group(tree: Any) -> bool:
    """Whether anything in a parse tree may occur twice or more and is not a single item."""
    for operation, argument in tree:
        inner = _subtrees(argument)
        if any(map(_repeats_a_group, inner)):
            return True
        if "REPEAT" in str(operation) and argument[1] > 1:
            body = list(inner[0])
            if len(body) != 1 or _subtrees(body[0][1]):
                return True
    return False


def _subtrees(argument: Any) -> list[Any]:
    if isinstance(argument, re._parser.SubPattern):  # type: ignore[attr-defined]
        return [argument]
    if isinstance(argument, tuple | list):
        return [tree for part in argument for tree in _subtrees(part)]
    return []


@pytest.mark.parametrize("pattern", ["(a)+", "(?:ab){2}", "(a|bc)*", "((a+)|b)*?", "x(?=(a+)+)"])
def test_the_oracle_sees_repeated_groups(pattern: str) -> None:
    assert _repeats_a_group(re._parser.parse(pattern))  # type: ignore[attr-defined]
