"""Mixing follows its formulas."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidTrainingData
from server.training.data.mixing import drawn_counts, general_count, in_passes, mixing_shares

SIZES = st.lists(st.integers(0, 5000), min_size=1, max_size=6).filter(any)


def test_shares_follow_sizes_to_the_exponent() -> None:
    shares = mixing_shares([10_000, 100], [1, 1], exponent=0.7)
    assert shares == pytest.approx([10_000**0.7 / (10_000**0.7 + 100**0.7), 100**0.7 / (10_000**0.7 + 100**0.7)])
    assert shares[1] == pytest.approx(0.0383, abs=1e-4)


def test_a_cap_bounds_a_size_and_a_weight_multiplies_a_share() -> None:
    shares = mixing_shares([10_000, 100], [1, 3], exponent=0.7, cap=400)
    first, second = 400**0.7, 3 * 100**0.7
    assert shares == pytest.approx([first / (first + second), second / (first + second)])


def test_exponents_of_one_and_nought_are_the_extremes() -> None:
    assert mixing_shares([300, 100], [1, 1], exponent=1) == pytest.approx([0.75, 0.25])
    assert mixing_shares([300, 100, 0], [1, 1, 1], exponent=0) == pytest.approx([0.5, 0.5, 0])


@given(SIZES, st.floats(0, 1), st.one_of(st.none(), st.integers(1, 2000)))
def test_counts_are_the_shares_of_the_capped_sizes(sizes: list[int], exponent: float, cap: int | None) -> None:
    shares = mixing_shares(sizes, [1.0] * len(sizes), exponent=exponent, cap=cap)
    counts = drawn_counts(sizes, shares, cap=cap)
    total = sum(size if cap is None else min(size, cap) for size in sizes)
    assert sum(shares) == pytest.approx(1)
    assert sum(counts) == total
    assert all(abs(count - share * total) < 1 + 1e-6 for count, share in zip(counts, shares, strict=True))


def test_one_task_is_drawn_once_each() -> None:
    counts = drawn_counts([17], mixing_shares([17], [1], exponent=0.7))
    assert sorted(in_passes(17, counts[0], random.Random(0))) == list(range(17))


@given(st.integers(1, 40), st.integers(0, 200), st.integers())
def test_none_is_drawn_twice_more_often_than_another(size: int, count: int, seed: int) -> None:
    drawn = in_passes(size, count, random.Random(seed))
    times = [drawn.count(index) for index in range(size)]
    assert len(drawn) == count
    assert max(times) - min(times) <= 1
    assert drawn == in_passes(size, count, random.Random(seed))


@given(st.integers(1, 10_000), st.floats(0, 0.9))
def test_general_texts_make_up_their_share_of_all(drawn: int, share: float) -> None:
    general = general_count(drawn, share)
    assert abs(general - share * (drawn + general)) <= 0.5


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_general_share_that_leaves_no_task_is_refused(share: float) -> None:
    with pytest.raises(InvalidTrainingData, match="general_share: must"):
        general_count(10, share)


def test_mixtures_of_nothing_are_refused() -> None:
    with pytest.raises(InvalidTrainingData, match="mixing_exponent"):
        mixing_shares([1], [1], exponent=1.5)
    with pytest.raises(InvalidTrainingData, match="at least 0"):
        mixing_shares([1], [-1], exponent=0.7)
    with pytest.raises(InvalidTrainingData, match="no task has both"):
        mixing_shares([1, 0], [0, 1], exponent=0.7)
