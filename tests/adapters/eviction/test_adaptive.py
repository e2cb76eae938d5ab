"""The adaptive policy: it does as the better of its candidates does, and follows when the traffic changes its kind."""

import random
from collections.abc import Callable, Iterator

import pytest

from server.adapters.eviction.adaptive import Adaptive
from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.eviction.rated import Rated
from server.adapters.eviction.shadow import Shadow

PLACES = 16


def rated() -> EvictionPolicy:
    return Rated(cost_aware=True, predicted=False)


def adaptive() -> EvictionPolicy:
    return Adaptive((rated, LeastRecentlyUsed))


def steady(requests: int, seed: int) -> Iterator[str]:
    """Zipf 1.0 over 200 versions: a long memory is right."""
    weights = [1 / rank for rank in range(1, 201)]
    names = [f"s{number}" for number in range(200)]
    yield from random.Random(seed).choices(names, weights, k=requests)


def moving(requests: int, seed: int) -> Iterator[str]:
    """Another dozen versions every 250 requests: what was asked for before is worth nothing."""
    draw = random.Random(seed)
    for number in range(requests):
        yield f"m{number // 250}-{draw.randrange(12)}"


def misses(make: Callable[[], EvictionPolicy], requests: Iterator[str]) -> int:
    """Of a tier with places of one size that loads whatever it lacks."""
    policy, held, missed = make(), set[str](), 0
    for now, key in enumerate(requests):
        policy.asked(key, now)
        if key in held:
            continue
        missed += 1
        if len(held) == PLACES:
            victim = next(policy.coldest(now))
            held.remove(victim)
            policy.removed(victim)
        held.add(key)
        policy.admitted(key, 1, 1.0, now)
    return missed


@pytest.mark.parametrize("traffic", [steady, moving])
@pytest.mark.parametrize("seed", range(3))
def test_it_misses_hardly_more_than_the_better_candidate(
    traffic: Callable[[int, int], Iterator[str]], seed: int
) -> None:
    best = min(misses(make, traffic(6000, seed)) for make in (LeastRecentlyUsed, rated))
    assert misses(adaptive, traffic(6000, seed)) <= 1.1 * best


def test_neither_candidate_alone_is_good_at_both() -> None:
    """Or there would be no need for this."""
    assert misses(rated, steady(6000, 0)) < 0.9 * misses(LeastRecentlyUsed, steady(6000, 0))
    assert misses(rated, moving(6000, 0)) > 1.5 * misses(LeastRecentlyUsed, moving(6000, 0))


def test_the_ruling_candidate_changes_with_the_traffic() -> None:
    policy, ruling = Adaptive((rated, LeastRecentlyUsed)), []

    def recorded() -> Iterator[str]:
        for requests in (steady(4000, 1), moving(4000, 1)):
            yield from requests
            ruling.append(policy.ruling)

    misses(lambda: policy, recorded())
    assert ruling == [0, 1]


def test_a_shadow_never_holds_more_than_the_tier() -> None:
    shadow = Shadow(LeastRecentlyUsed())
    for now, key in enumerate("abcab"):
        if not shadow.asked(key, now):
            shadow.take(key, 4, 1.0, 8, now)
    assert [shadow.asked(key, 9) for key in "abc"] == [True, True, False]
    shadow.take("d", 9, 1.0, 8, 10)
    assert not shadow.asked("d", 11)
