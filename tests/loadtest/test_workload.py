"""A workload is reproducible, and as unequal as it says."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.workload import Workload

NAMES = tuple(f"adapter-{index}" for index in range(16))
WORKLOAD = Workload(NAMES, requests=72, max_tokens=48)


def test_equal_workloads_ask_the_same() -> None:
    assert WORKLOAD.items() == Workload(NAMES, requests=72, max_tokens=48).items()


def test_another_seed_asks_something_else() -> None:
    assert WORKLOAD.items() != replace(WORKLOAD, seed=1).items()


def test_runs_share_the_popularity_and_no_prompt() -> None:
    first, second = WORKLOAD.items(0), WORKLOAD.items(1)
    assert {item.prompt for item in first}.isdisjoint(item.prompt for item in second)


def test_no_prompt_is_asked_twice() -> None:
    items = replace(WORKLOAD, requests=2000).items()
    assert len({item.prompt for item in items}) == 2000


def test_items_are_numbered_in_order_and_of_the_length_asked_for() -> None:
    items = WORKLOAD.items()
    assert [item.index for item in items] == list(range(72))
    assert {item.max_tokens for item in items} == {48}


def test_popularity_is_zipfian() -> None:
    shares = list(WORKLOAD.popularity().values())
    assert shares == pytest.approx([shares[0] / rank for rank in range(1, 17)])


def test_an_exponent_of_zero_is_uniform() -> None:
    assert list(replace(WORKLOAD, zipf=0).popularity().values()) == pytest.approx([1 / 16] * 16)


def test_items_follow_the_popularity() -> None:
    workload = replace(WORKLOAD, requests=20_000)
    counts = Counter(item.model for item in workload.items())
    for name, share in workload.popularity().items():
        assert counts[name] / 20_000 == pytest.approx(share, rel=0.2)


@given(
    count=st.integers(1, 200), zipf=st.floats(0, 4, allow_nan=False), seed=st.integers(0, 2**32), run=st.integers(0, 99)
)
def test_popularity_is_a_distribution_over_all_adapters(count: int, zipf: float, seed: int, run: int) -> None:
    names = tuple(map(str, range(count)))
    workload = Workload(names, requests=5, max_tokens=1, zipf=zipf, seed=seed)
    shares = workload.popularity()
    assert set(shares) == set(names)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {item.model for item in workload.items(run)} <= set(names)


@pytest.mark.parametrize(
    ("adapters", "requests", "max_tokens", "zipf", "named"),
    [
        ((), 1, 1, 1.0, "adapters"),
        (NAMES, 0, 1, 1.0, "requests"),
        (NAMES, 1, 0, 1.0, "max_tokens"),
        (NAMES, 1, 1, -0.1, "zipf"),
    ],
    ids=["no adapters", "no requests", "no tokens", "negative zipf"],
)
def test_a_workload_that_asks_nothing_is_refused(
    adapters: tuple[str, ...], requests: int, max_tokens: int, zipf: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Workload(adapters, requests, max_tokens, zipf)
