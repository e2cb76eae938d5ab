"""Shares come out as the weights say: request by request nearly exactly, by label for good."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.task_rule import MIN_WEIGHT
from server.api.routing.traffic_split import EvenSequence, arm_at, arm_of_label, independent_step

STARTS = st.integers(0, 2**64 - 1)
WEIGHTS = st.lists(st.just(0.0) | st.floats(MIN_WEIGHT, 1000), min_size=1, max_size=6).filter(
    lambda weights: sum(weights) > 0
)


def counts(weights: list[float], requests: int, start: int = 0, every: int = 1) -> list[int]:
    """How many of the requests each arm gets, where only every so-many-th counts."""
    sequence = EvenSequence(start=start)
    found = [0] * len(weights)
    for number in range(requests * every):
        arm = arm_at(sequence.next(), weights)
        if number % every == 0:
            found[arm] += 1
    return found


@given(STARTS)
def test_ten_percent_of_two_thousand_are_two_hundred(start: int) -> None:
    assert counts([90, 10], 2000, start)[1] == pytest.approx(200, abs=3)


@pytest.mark.parametrize("every", [2, 3, 5, 10])
def test_traffic_that_repeats_gets_the_same_shares(every: int) -> None:
    assert counts([0.9, 0.1], 1000, every=every)[1] == pytest.approx(100, abs=6)


@given(WEIGHTS, STARTS)
def test_every_arm_gets_its_share(weights: list[float], start: int) -> None:
    requests = 500
    for got, weight in zip(counts(weights, requests, start), weights, strict=True):
        assert got == pytest.approx(requests * weight / math.fsum(weights), abs=8)
        assert weight > 0 or got == 0


@given(STARTS, st.integers(0, 3))
def test_points_lie_in_the_unit_interval(start: int, index: int) -> None:
    sequence = EvenSequence(independent_step(index), start)
    points = [sequence.next() for _ in range(100)]
    assert all(0 <= point < 1 for point in points)
    assert len(set(points)) == 100


def test_a_shadow_is_sampled_independently_of_the_arm() -> None:
    arms, samples = EvenSequence(start=0), EvenSequence(independent_step(0), start=0)
    both = sum(arm_at(arms.next(), [1, 1]) == 0 and samples.next() < 0.5 for _ in range(2000))
    assert both == pytest.approx(500, abs=30)


@pytest.mark.parametrize("point", [0.0, 0.5, 1 - 2**-53])
def test_an_arm_of_weight_zero_gets_nothing(point: float) -> None:
    assert arm_at(point, [0, 1, 0]) == 1


def by_label(weights: list[float], arms: list[str]) -> list[str]:
    return [arms[arm_of_label(f"user-{number}", "task", weights, arms)] for number in range(2000)]


def test_labels_are_split_by_weight() -> None:
    assert by_label([9, 1], ["a", "b"]).count("b") == pytest.approx(200, abs=45)


def test_more_weight_moves_labels_to_that_arm_and_none_elsewhere() -> None:
    before, after = by_label([8, 1, 1], ["a", "b", "c"]), by_label([8, 3, 1], ["a", "b", "c"])
    assert {(old, new) for old, new in zip(before, after, strict=True) if old != new} == {("a", "b"), ("c", "b")}


def test_another_arm_takes_labels_and_moves_none_between_others() -> None:
    before, after = by_label([1, 1], ["a", "b"]), by_label([1, 1, 1], ["c", "b", "a"])
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"c"}


@given(st.text(), st.text(), WEIGHTS)
def test_a_label_has_one_arm(label: str, task: str, weights: list[float]) -> None:
    arms = [f"arm-{number}" for number in range(len(weights))]
    arm = arm_of_label(label, task, weights, arms)
    assert arm == arm_of_label(label, task, weights, arms)
    assert weights[arm] > 0
