"""What an operator may write as a task's rule, and what is refused by the path of the field."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.errors import InvalidTask
from adapters_store.task_rule import (
    MAX_ARMS,
    MAX_SHADOWS,
    STICKY_LABELS,
    Arm,
    Pressure,
    Shadow,
    TaskRule,
    Tier,
    parse_rule,
)

ARM = {"adapter": "support"}

REFS = st.sampled_from(["support", "support@prod", "acme/support@canary", "base", "tone", "fr", "de", "short@v2"])
WEIGHTS = st.floats(0.01, 1000)
ARMS = st.one_of(
    st.builds(Arm, adapter=REFS, weight=WEIGHTS),
    st.builds(Arm, tiers=st.lists(st.builds(Tier, adapter=REFS), min_size=1, max_size=4, unique=True).map(tuple)),
)
RULES = st.builds(
    TaskRule,
    arms=st.lists(ARMS, min_size=1, max_size=4, unique_by=str).map(tuple),
    fallback=st.lists(REFS.filter(lambda ref: ref != "base"), max_size=3, unique=True).map(tuple),
    shadow=st.lists(
        st.builds(Shadow, adapter=REFS, sample=st.floats(0.01, 1)), max_size=4, unique_by=lambda shadow: shadow.adapter
    ).map(tuple),
    sticky=st.sampled_from([None, *STICKY_LABELS]),
    pressure=st.builds(Pressure, down=st.floats(0.5, 1), up=st.floats(0.01, 0.4), hold_seconds=st.floats(0, 3600)),
    description=st.text(max_size=50),
)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


def test_the_shortest_rule_is_one_arm() -> None:
    rule = parse_rule({"arms": [ARM]})
    assert rule == TaskRule(arms=(Arm(adapter="support", weight=1.0),))
    assert list(rule.refs()) == [("arms[0].adapter", "support")]


def test_a_rule_names_its_adapters_with_the_paths_of_their_fields() -> None:
    rule = parse_rule(
        {
            "arms": [{"adapter": "a", "weight": 90}, {"tiers": [{"adapter": "b@high"}, {"adapter": "b@low"}]}],
            "fallback": ["c", "base"],
            "shadow": [{"adapter": "d", "sample": 0.5}],
        }
    )
    assert list(rule.refs()) == [
        ("arms[0].adapter", "a"),
        ("arms[1].tiers[0].adapter", "b@high"),
        ("arms[1].tiers[1].adapter", "b@low"),
        ("fallback[0]", "c"),
        ("fallback[1]", "base"),
        ("shadow[0].adapter", "d"),
    ]
    assert [str(arm) for arm in rule.arms] == ["a", "b@high,b@low"]


@given(RULES)
def test_a_rule_is_what_its_json_says(rule: TaskRule) -> None:
    assert parse_rule(msgspec.json.decode(msgspec.json.encode(rule))) == rule


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"arms": []}, "arms"),
        ({"arms": [{"adapter": f"a{n}"} for n in range(MAX_ARMS + 1)]}, "arms"),
        ({"arms": [{}]}, "arms[0]"),
        ({"arms": [{"adapter": "a", "tiers": [{"adapter": "b"}]}]}, "arms[0]"),
        ({"arms": [ARM, {"adapter": "a", "weight": -1}]}, "arms[1].weight"),
        ({"arms": [{"adapter": "a", "weight": 5e-324}]}, "arms[0].weight"),
        ({"arms": [{"adapter": "a", "weight": math.inf}]}, "arms[0].weight"),
        ({"arms": [{"adapter": "a", "weight": math.nan}]}, "arms[0].weight"),
        ({"arms": [{"adapter": "a", "weight": "10%"}]}, "arms[0].weight"),
        ({"arms": [{"adapter": "a", "weight": True}]}, "arms[0].weight"),
        ({"arms": [{"adapter": "a", "weight": 0}]}, "arms"),
        ({"arms": [ARM, ARM]}, "arms"),
        ({"arms": [{"adapter": "../etc"}]}, "arms[0].adapter"),
        ({"arms": [{"adapter": "task"}]}, "arms[0].adapter"),
        ({"arms": [{"adapter": "base@prod"}]}, "arms[0].adapter"),
        ({"arms": [{"adapter": 7}]}, "arms[0].adapter"),
        ({"arms": [{"tiers": [{"adapter": "a"}, {"adapter": "a"}]}]}, "arms[0].tiers"),
        ({"arms": [{"tiers": [{"adapter": f"a{n}"} for n in range(9)]}]}, "arms[0].tiers"),
        ({"arms": [ARM], "fallback": ["base", "a"]}, "fallback"),
        ({"arms": [ARM], "fallback": ["a", "a"]}, "fallback"),
        ({"arms": [ARM], "fallback": "a"}, "fallback"),
        ({"arms": [ARM], "shadow": [{"adapter": "a", "sample": 0}]}, "shadow[0].sample"),
        ({"arms": [ARM], "shadow": [{"adapter": "a", "sample": 1.1}]}, "shadow[0].sample"),
        ({"arms": [ARM], "shadow": [{"adapter": f"a{n}"} for n in range(MAX_SHADOWS + 1)]}, "shadow"),
        ({"arms": [ARM], "sticky": "session"}, "sticky"),
        ({"arms": [ARM], "pressure": {"down": 0}}, "pressure.down"),
        ({"arms": [ARM], "pressure": {"down": 0.5, "up": 0.5}}, "pressure.up"),
        ({"arms": [ARM], "pressure": {"hold_seconds": -1}}, "pressure.hold_seconds"),
        ({"arms": [ARM], "description": "x" * 1001}, "description"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(body: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidTask) as refusal:
        parse_rule(body)
    assert refusal.value.param == param
    assert param is None or refusal.value.message.startswith(param)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"arms": [ARM], "colour": "red"}, "colour"),
        ({"arms": [{"adapter": "a", "weigth": 3}]}, "weigth"),
        ({"arms": [ARM], "pressure": {"level": 1}}, "level"),
        ({"arm": [ARM]}, "arm"),
    ],
)
def test_an_unknown_field_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTask, match=field):
        parse_rule(body)


@given(
    JSON_VALUES | st.fixed_dictionaries({"arms": JSON_VALUES}, optional={"shadow": JSON_VALUES, "sticky": JSON_VALUES})
)
def test_any_json_is_a_rule_or_refused(body: object) -> None:
    try:
        rule = parse_rule(body)
    except InvalidTask:
        return
    assert rule.arms


def test_deep_nesting_is_refused() -> None:
    body: object = []
    for _ in range(100_000):
        body = [body]
    with pytest.raises(InvalidTask):
        parse_rule({"arms": body})
