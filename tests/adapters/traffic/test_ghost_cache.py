"""The ghost cache against caches of every size that are really simulated."""

import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.traffic.ghost_cache import HALF_LIFE, GhostCache

PRECISION = 2 ** (1 / 32)

Requests = list[tuple[str, int]]


def lru_hits(requests: Requests, capacity: int) -> int:
    """Hits of a real LRU cache by bytes."""
    held: OrderedDict[str, int] = OrderedDict()
    hits = 0
    for key, size in requests:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        held[key] = size
        while sum(held.values()) > capacity:
            held.popitem(last=False)
    return hits


def sized(keys: list[int]) -> Requests:
    """Every key with a size of its own, 1 to 9 units of 64."""
    return [(f"key-{key}", 64 * (1 + key * 7 % 9)) for key in keys]


@given(keys=st.lists(st.integers(0, 12), min_size=1, max_size=120), units=st.integers(9, 80))
def test_every_size_has_the_hits_of_a_real_cache(keys: list[int], units: int) -> None:
    requests, ghost = sized(keys), GhostCache()
    for key, size in requests:
        ghost.asked(key, size, 0.0)
    capacity = 64 * units
    (ratio,) = ghost.hit_ratios([capacity])
    least, most = lru_hits(requests, max(576, int(capacity / PRECISION))), lru_hits(requests, capacity)
    if capacity / PRECISION < 576:
        least = 0
    assert least / len(keys) - 1e-9 <= ratio <= most / len(keys) + 1e-9


@given(keys=st.lists(st.integers(0, 30), max_size=200))
def test_a_larger_cache_never_hits_less(keys: list[int]) -> None:
    ghost = GhostCache(followed=8)
    for key, size in sized(keys):
        ghost.asked(key, size, 0.0)
    ratios = ghost.hit_ratios([1 << power for power in range(4, 20)])
    assert ratios == sorted(ratios)
    assert all(0 <= ratio <= 1 for ratio in ratios)


@pytest.mark.parametrize("exponent", [0.8, 1.1])
def test_a_sample_tells_nearly_the_same(exponent: float) -> None:
    dice = random.Random(3)
    population = 20_000
    weights = [1 / rank**exponent for rank in range(1, population + 1)]
    requests = [(f"adapter-{one}", 100) for one in dice.choices(range(population), weights, k=60_000)]
    whole, sample = GhostCache(followed=population), GhostCache(followed=1000)
    for key, size in requests:
        whole.asked(key, size, 0.0)
        sample.asked(key, size, 0.0)
    budgets = [100 * keys for keys in (250, 1000, 4000, 16_000)]
    assert whole.sample_rate == 1
    assert sample.sample_rate < 0.2
    assert sample.hit_ratios(budgets) == pytest.approx(whole.hit_ratios(budgets), abs=0.06)


def test_requests_of_long_ago_no_longer_count() -> None:
    ghost = GhostCache()
    for number in range(1000):
        ghost.asked(f"once-{number}", 10, 0.0)
    for _ in range(100):
        ghost.asked("again", 10, 20 * HALF_LIFE)
    (ratio,) = ghost.hit_ratios([11])
    assert ratio == pytest.approx(0.99, abs=0.01)
    assert ghost.requests == pytest.approx(100, rel=0.01)


def test_before_any_request_nothing_is_said() -> None:
    assert GhostCache().hit_ratios([1, 10]) == [0, 0]


def test_many_requests_are_cheap_to_remember() -> None:
    ghost = GhostCache(followed=16)
    for number in range(5000):
        ghost.asked(f"key-{number % 3}", 10, 0.0)
    assert ghost.hit_ratios([29, 31]) == pytest.approx([0, 4997 / 5000])
