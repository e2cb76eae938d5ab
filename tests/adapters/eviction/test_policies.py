"""Every eviction policy: what it keeps, and that its order is the order of worth."""

import math
from itertools import islice
from typing import get_args
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.eviction import lru
from server.adapters.eviction.choice import PolicyName, eviction_policy
from server.adapters.eviction.decayed_rates import DecayedRates
from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.eviction.request_pace import RequestPace

NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
KEYS = ("a", "b", "c", "d", "e")

Step = tuple[str, str, float]
steps = st.lists(
    st.tuples(st.sampled_from(("ask", "admit", "remove", "foretell")), st.sampled_from(KEYS), st.floats(0, 100)),
    max_size=60,
)


@pytest.mark.parametrize("name", NAMES)
@given(script=steps)
def test_coldest_gives_what_is_held_in_the_order_of_worth(name: PolicyName, script: list[Step]) -> None:
    policy, held, now = eviction_policy(name), dict[str, tuple[int, float]](), 0.0
    for action, key, value in script:
        now += value
        match action:
            case "ask":
                policy.asked(key, now)
            case "admit":
                held[key] = (1 + int(value), 0.01 + value)
                policy.admitted(key, *held[key], now)
            case "remove":
                held.pop(key, None)
                policy.removed(key)
            case "foretell":
                policy.foretold({key: value}, now)
        order = list(policy.coldest(now))
        assert sorted(order) == sorted(held)
        worths = [policy.worth(one, *held[one], now) for one in order]
        assert worths == sorted(worths)
        assert list(islice(policy.coldest(now), 2)) == order[:2]


def test_lru_gives_up_what_was_asked_for_longest_ago() -> None:
    policy = eviction_policy("lru")
    for now, key in enumerate("abca"):
        policy.asked(key, now)
        policy.admitted(key, 1, 1.0, now)
    assert list(policy.coldest(4)) == ["b", "c", "a"]


def test_lru_forgets_what_was_asked_for_longest_ago_and_never_came() -> None:
    policy = LeastRecentlyUsed()
    with patch.object(lru, "_REMEMBERED", 2):
        for now, key in enumerate("abac"):
            policy.asked(key, now)
    assert [policy.worth(key, 1, 1.0, 4) for key in "abc"] == [2, -math.inf, 3]


def test_lfu_keeps_the_often_asked_over_the_recently_asked() -> None:
    policy = eviction_policy("lfu")
    for now, key in enumerate("aaab"):
        policy.asked(key, now)
        policy.admitted(key, 1, 1.0, now)
    assert list(policy.coldest(4)) == ["b", "a"]


def test_cost_gives_up_the_large_and_quickly_reloaded_of_equally_asked() -> None:
    policy = eviction_policy("cost")
    for key, size, reload_seconds in (("large", 100, 1.0), ("small", 10, 1.0), ("slow", 10, 5.0)):
        policy.asked(key, 0)
        policy.admitted(key, size, reload_seconds, 0)
    assert list(policy.coldest(1)) == ["large", "small", "slow"]


def test_predicted_keeps_what_is_foretold_until_that_is_taken_back() -> None:
    policy = eviction_policy("predicted")
    for key in "ab":
        policy.admitted(key, 1, 1.0, 0)
    policy.asked("a", 0)
    policy.foretold({"b": 5.0}, 1)
    assert list(policy.coldest(1)) == ["a", "b"]
    policy.foretold({}, 2)
    assert list(policy.coldest(2)) == ["b", "a"]


@given(ages=st.lists(st.floats(0, 1e7), min_size=1, max_size=50))
def test_a_decayed_rate_is_the_sum_of_its_halving_requests(ages: list[float]) -> None:
    rates, now = DecayedRates(60.0), 1e7
    for age in sorted(ages, reverse=True):
        rates.hit("a", now - age)
    expected = sum(math.log(2) / 60 * 2.0 ** (-age / 60) for age in ages)
    assert rates.rate("a", now) == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("name", NAMES)
@given(asked=st.lists(st.sampled_from(KEYS), min_size=1, max_size=60), pace=st.sampled_from((0.001, 1.0, 1000.0)))
def test_a_policy_decides_the_same_however_fast_the_same_requests_come(
    name: PolicyName, asked: list[str], pace: float
) -> None:
    def order(gap: float) -> list[str]:
        policy = eviction_policy(name)
        for key in KEYS:
            policy.admitted(key, 1, 1.0, 0)
        for index, key in enumerate(asked):
            policy.asked(key, index * gap)
        return list(policy.coldest(len(asked) * gap))

    assert order(pace) == order(1.0)


def test_a_forecast_is_compared_with_what_was_counted_by_the_pace_of_requests() -> None:
    policy = eviction_policy("predicted")
    policy.foretold({}, 0)
    for key in "ab":
        policy.admitted(key, 1, 1.0, 0)
    for now in range(1, 501):
        policy.asked("acde"[now % 4], now)
    policy.foretold({"b": 0.1}, 501)
    assert list(policy.coldest(501)) == ["b", "a"]  # "a" comes every fourth second
    policy.foretold({"b": 0.8}, 502)
    assert list(policy.coldest(502)) == ["a", "b"]


def test_the_pace_is_what_was_foretold_until_something_was_counted() -> None:
    pace = RequestPace()
    assert pace.rate(10.0, at_least=3.0) == 3.0
    for _ in range(40):
        pace.asked()
    assert pace.rate(20.0, at_least=3.0) == 4.0
    assert pace.rate(1000.0, at_least=3.0) == 3.0
