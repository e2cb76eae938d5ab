"""The traffic model: what it says of the near future after what it has seen."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.traffic.traffic_model import FAST_HALF_LIFE, TrafficModel

MONDAY = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


def model(capacity: int = 1000) -> TrafficModel:
    return TrafficModel(capacity=capacity, zone=UTC)


def steady(traffic: TrafficModel, rates: dict[str, float], begin: float, end: float, seed: int = 0) -> None:
    """Requests at random times, at `rates` requests a second."""
    dice = random.Random(seed)
    arrivals = []
    for key, rate in rates.items():
        at = begin + dice.expovariate(rate)
        while at < end:
            arrivals.append((at, key))
            at += dice.expovariate(rate)
    for at, key in sorted(arrivals):
        traffic.observe(key, at)


def office_hours(traffic: TrafficModel, weeks: int) -> None:
    """`office` is asked for on weekdays from nine to five, `night` at all other times, `always` all the time."""
    dice = random.Random(1)
    at = MONDAY
    while at < MONDAY + weeks * 7 * DAY:
        local = datetime.fromtimestamp(at, UTC)
        is_office = local.weekday() < 5 and 9 <= local.hour < 17
        traffic.observe("office" if is_office else "night", at)
        traffic.observe("always", at)
        at += dice.expovariate(1 / 60)


def test_what_was_never_asked_for_has_no_rate() -> None:
    traffic = model()
    assert traffic.rate("a", MONDAY) == 0
    assert traffic.hottest(5, MONDAY) == []
    traffic.observe("b", MONDAY)
    assert traffic.rate("a", MONDAY) == 0
    assert traffic.hottest(0, MONDAY) == []


@pytest.mark.parametrize("seconds", [2 * HOUR, 3 * DAY])
def test_rates_converge_to_those_of_steady_traffic(seconds: float) -> None:
    traffic, rates = model(), {"hot": 0.2, "warm": 0.05, "cool": 0.01}
    steady(traffic, rates, MONDAY, MONDAY + seconds)
    at = MONDAY + seconds
    for key, rate in rates.items():
        assert traffic.rate(key, at) == pytest.approx(rate, rel=0.5)
    assert [key for key, _ in traffic.hottest(3, at)] == ["hot", "warm", "cool"]


def test_the_hottest_come_first_with_their_rates() -> None:
    traffic = model()
    for at, key in enumerate("abcbcc"):
        traffic.observe(key, MONDAY + at)
    found = traffic.hottest(2, MONDAY + 10)
    assert [key for key, _ in found] == ["c", "b"]
    assert [rate for _, rate in found] == [traffic.rate("c", MONDAY + 10), traffic.rate("b", MONDAY + 10)]
    assert len(traffic.hottest(10, MONDAY + 10)) == 3


def test_a_surge_is_seen_within_minutes_of_it() -> None:
    traffic = model()
    steady(traffic, {"usual": 0.02}, MONDAY, MONDAY + 2 * DAY)
    steady(traffic, {"new": 0.1}, MONDAY + 2 * DAY, MONDAY + 2 * DAY + 600)
    at = MONDAY + 2 * DAY + 600
    assert traffic.hottest(1, at)[0][0] == "new"
    assert traffic.rate("new", at) > 0.02


def test_one_request_is_no_surge() -> None:
    traffic = model()
    steady(traffic, {"usual": 0.002}, MONDAY, MONDAY + 3 * DAY)
    traffic.observe("once", MONDAY + 3 * DAY)
    assert traffic.hottest(1, MONDAY + 3 * DAY + 1)[0][0] == "usual"


def test_what_falls_silent_loses_its_rate() -> None:
    traffic = model()
    steady(traffic, {"silent": 0.1}, MONDAY, MONDAY + DAY)
    before, after = (traffic.rate("silent", MONDAY + DAY + later) for later in (0, HOUR))
    assert after < before / 20


def test_hours_and_weekdays_are_learned_from_two_weeks() -> None:
    traffic = model()
    office_hours(traffic, 2)
    monday = MONDAY + 14 * DAY
    # It is Monday, just before nine. Nobody has asked for `office` since Friday.
    nine = monday + 9 * HOUR - 60
    steady(traffic, {"night": 1 / 60, "always": 1 / 60}, monday, nine)
    rates = dict(traffic.hottest(3, nine))
    assert rates["office"] == pytest.approx(1 / 60, rel=0.5)
    assert rates["always"] == pytest.approx(1 / 60, rel=0.5)
    # At three in the morning, and on a Saturday at ten, it is not expected.
    assert traffic.rate("office", monday + 3 * HOUR) < 1 / 60 / 10
    assert traffic.rate("office", monday + 5 * DAY + 10 * HOUR) < 1 / 60 / 3


def test_without_enough_history_no_season_is_believed() -> None:
    traffic = model()
    steady(traffic, {"morning": 0.05}, MONDAY + 8 * HOUR, MONDAY + 10 * HOUR)
    steady(traffic, {"other": 0.01}, MONDAY + 10 * HOUR, MONDAY + 30 * HOUR)
    at = MONDAY + 31 * HOUR
    # The hour of eight was seen on one day only: it says nothing.
    assert traffic.rate("morning", at) == pytest.approx(traffic.rate("morning", at + HOUR), rel=0.5)


def test_a_clock_that_goes_back_stands_still() -> None:
    traffic = model()
    traffic.observe("a", MONDAY + 100)
    traffic.observe("a", MONDAY)
    assert next(traffic.usage(MONDAY + 100)).last_asked == MONDAY + 100
    assert next(traffic.usage(MONDAY + 100)).requests == 2


def test_what_a_clock_that_was_ahead_has_seen_decays_as_soon_as_it_is_right() -> None:
    traffic = model()
    steady(traffic, {"ahead": 0.1}, MONDAY + 365 * DAY, MONDAY + 366 * DAY)
    traffic.observe("a", MONDAY + DAY)
    assert all(one.last_asked <= MONDAY + DAY for one in traffic.usage(MONDAY + DAY))
    assert traffic.started == MONDAY + DAY
    before, after = (traffic.rate("ahead", MONDAY + DAY + later) for later in (0, 2 * HOUR))
    assert after < before / 20
    steady(traffic, {"now": 0.05}, MONDAY + DAY, MONDAY + DAY + HOUR)
    assert traffic.hottest(1, MONDAY + DAY + 2 * HOUR)[0][0] == "now"


def test_times_after_a_restart_are_none_of_the_future() -> None:
    traffic, restored = model(), model()
    steady(traffic, {"ahead": 0.1}, MONDAY + 365 * DAY, MONDAY + 366 * DAY)
    restored.restore(traffic.state(), MONDAY)
    state = restored.state()
    assert max(state.started, state.latest, state.watched, state.faded) == MONDAY
    assert next(restored.usage(MONDAY)).last_asked == MONDAY
    assert restored.rate("ahead", MONDAY + 2 * HOUR) < restored.rate("ahead", MONDAY) / 20


def test_memory_is_bounded_and_the_rarest_are_forgotten() -> None:
    traffic = model(capacity=100)
    for at in range(50):
        traffic.observe("often", MONDAY + at)
    for number in range(1000):
        traffic.observe(f"once-{number}", MONDAY + 50 + number)
    assert len(traffic) <= 100
    assert traffic.hottest(1, MONDAY + 1100)[0][0] == "often"
    assert "once-999" in traffic


def test_usage_is_as_it_was_when_it_was_asked_for() -> None:
    traffic = model()
    traffic.observe("a", MONDAY)
    traffic.observe("b", MONDAY + HOUR)
    usage = traffic.usage(MONDAY + HOUR)
    for number in range(1000):
        traffic.observe(f"later-{number}", MONDAY + HOUR)
    assert {one.key: (one.requests, one.last_asked) for one in usage} == {"a": (1, MONDAY), "b": (1, MONDAY + HOUR)}
    assert traffic.started == MONDAY


def test_a_restored_model_says_the_same() -> None:
    traffic, restored = model(), model()
    office_hours(traffic, 2)
    restored.restore(traffic.state())
    for hours in range(0, 72, 5):
        at = MONDAY + 14 * DAY + hours * HOUR
        assert restored.hottest(3, at) == traffic.hottest(3, at)
    for one in (traffic, restored):
        one.observe("office", MONDAY + 15 * DAY)
    assert restored.state() == traffic.state()


def test_a_state_that_does_not_fit_together_changes_nothing() -> None:
    traffic = model()
    traffic.observe("a", MONDAY)
    state = traffic.state()
    for broken in (
        {"keys": ("a", "b")},
        {"fast": state.fast[:4]},
        {"slow": b""},
        {"profiles": state.profiles[:-4]},
        {"exposure": (1.0,)},
        {"exposure": (math.nan, *state.exposure[1:])},
        {"latest": math.inf},
        {"fast": b"\xff" * 8},
    ):
        with pytest.raises(ValueError, match=r"column|profile|time|size|multiple"):
            traffic.restore(type(state)(**{**vars(state), **broken}))
    assert traffic.state() == state


@given(
    gaps=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40 * DAY)), max_size=30),
    later=st.floats(0, 400 * DAY),
)
def test_rates_are_finite_and_ordered_whatever_comes_when(gaps: list[tuple[str, float]], later: float) -> None:
    traffic, at = TrafficModel(capacity=2, zone=UTC), MONDAY
    for key, gap in gaps:
        at += gap
        traffic.observe(key, at)
    rates = [rate for _, rate in traffic.hottest(3, at + later)]
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
    assert rates == sorted(rates, reverse=True)
    assert len(traffic) <= 2


def test_the_fast_half_life_is_what_the_documentation_says() -> None:
    assert timedelta(seconds=FAST_HALF_LIFE) == timedelta(minutes=10)
