"""Generated traffic: seeds reproduce it, and its shares, rates and lengths are those asked for."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.trace import Arrival
from loadtest.workloads.arrival_times import DiurnalPoisson, Paced, Poisson
from loadtest.workloads.lengths import Constant, Empirical, Lognormal, Uniform, parse_lengths
from loadtest.workloads.popularity import Bursty, Diurnal, Drifting, Modulated, Popularity, Zipf
from loadtest.workloads.traffic import Traffic

NAMES = tuple(f"a{index}" for index in range(20))
POPULARITIES: list[Popularity] = [
    Zipf(20, 0.0),
    Zipf(20, 1.4),
    Drifting(Zipf(20, 1.0), 60.0),
    Modulated(Zipf(20, 1.0), Diurnal(60.0)),
    Modulated(Zipf(20, 1.0), Bursty(5.0)),
]


def arrivals(popularity: Popularity, seed: int = 0, requests: int = 300) -> list[Arrival]:
    return list(Traffic(NAMES, popularity, Poisson(5.0), seed=seed).arrivals(requests=requests))


def chosen(popularity: Popularity, at: float, count: int = 20_000) -> Counter[int]:
    return Counter(popularity.choose(np.full(count, at), np.random.default_rng(0)).tolist())


@pytest.mark.parametrize("popularity", POPULARITIES, ids=lambda p: type(p).__name__)
def test_a_seed_reproduces_the_traffic_and_another_gives_other(popularity: Popularity) -> None:
    assert arrivals(popularity, 3) == arrivals(popularity, 3)
    assert arrivals(popularity, 3) != arrivals(popularity, 4)


@pytest.mark.parametrize("popularity", POPULARITIES, ids=lambda p: type(p).__name__)
def test_a_longer_trace_begins_with_the_shorter(popularity: Popularity) -> None:
    assert arrivals(popularity, requests=5000)[:100] == arrivals(popularity, requests=100)


@given(exponent=st.sampled_from([0.0, 0.6, 1.0, 1.4]), adapters=st.integers(2, 50), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_shares_follow_the_exponent(exponent: float, adapters: int, seed: int) -> None:
    popularity = Zipf(adapters, exponent)
    seen = np.bincount(popularity.choose(np.zeros(20_000), np.random.default_rng(seed)), minlength=adapters) / 20_000
    expected = np.arange(1, adapters + 1) ** -exponent
    assert np.abs(seen - expected / expected.sum()).max() < 0.02


def test_a_drifting_popularity_hands_the_top_on_and_comes_round() -> None:
    popularity = Drifting(Zipf(10, 1.4), 100.0)
    tops = [chosen(popularity, at).most_common(1)[0][0] for at in (0.0, 10.0, 55.0, 99.9, 100.0)]
    assert tops == [0, 1, 5, 9, 0]


def test_a_diurnal_adapter_has_its_night() -> None:
    popularity = Modulated(Zipf(10, 0.0), Diurnal(24.0))
    by_hour = [chosen(popularity, float(hour))[0] for hour in range(24)]
    assert max(by_hour) > 10 * min(by_hour)
    assert by_hour == [chosen(popularity, float(hour + 24))[0] for hour in range(24)]


def test_a_bursty_adapter_is_on_for_its_share_of_the_time() -> None:
    bursty = Bursty(burst=2.0, on=0.25)
    at = np.arange(0.0, 40_000.0, 0.5)
    intensity = bursty.intensity(np.zeros(len(at), dtype=np.int64), at)
    assert set(intensity.tolist()) == {bursty.floor, 1.0}
    assert (intensity == 1.0).mean() == pytest.approx(0.25, abs=0.02)
    lengths = [len(run) for run in "".join("x" if one else " " for one in intensity == 1.0).split()]
    assert min(lengths[1:-1]) >= 4


@given(rate=st.floats(0.5, 200.0), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_poisson_arrivals_have_their_rate_and_rise(rate: float, seed: int) -> None:
    times = [a.at for a in Traffic(("a",), Zipf(1), Poisson(rate), seed=seed).arrivals(requests=4000)]
    assert all(one <= other for one, other in pairwise(times))
    assert 4000 / times[-1] == pytest.approx(rate, rel=0.1)


def test_a_day_has_its_low_and_its_peak() -> None:
    traffic = Traffic(("a",), Zipf(1), DiurnalPoisson(50.0, 100.0, trough=0.1))
    hours = Counter(int(arrival.at % 100 // 10) for arrival in traffic.arrivals(seconds=1000))
    assert hours[5] > 3 * hours[0]


def test_seconds_and_requests_both_end_a_trace() -> None:
    traffic = Traffic(NAMES, Zipf(20), Paced(10.0))
    assert len(list(traffic.arrivals(seconds=2.0))) == 20
    assert len(list(traffic.arrivals(seconds=2.0, requests=5))) == 5


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("48", Constant(48)),
        ("uniform:16,64", Uniform(16, 64)),
        ("lognormal:200,0.6", Lognormal(200, 0.6)),
        ("lognormal:200,0.6,900", Lognormal(200, 0.6, 900)),
        ("seen:9,30,400", Empirical([9, 30, 400])),
    ],
)
def test_lengths_are_written_as_text(text: str, lengths: object) -> None:
    assert parse_lengths(text) == lengths


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-3",
        "many",
        "uniform:9",
        "uniform:9,3",
        "lognormal:0,1",
        "seen:0",
        "x:1",
        "uniform:nan,3",
        "lognormal:1,inf",
    ],
)
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no distribution of lengths"):
        parse_lengths(text)


@given(low=st.integers(1, 50), more=st.integers(0, 50))
def test_lengths_stay_within_their_bounds(low: int, more: int) -> None:
    drawn = Uniform(low, low + more).draw(500, np.random.default_rng(0))
    assert low <= drawn.min() <= drawn.max() <= low + more
    assert 1 <= Lognormal(low, 2.0, low + more).draw(500, np.random.default_rng(0)).max() <= low + more


def test_half_of_lognormal_lengths_are_below_the_median() -> None:
    drawn = Lognormal(200, 0.6).draw(10_000, np.random.default_rng(0))
    assert (drawn < 200).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "make",
    [lambda: Zipf(0), lambda: Zipf(3, -1), lambda: Drifting(Zipf(3), 0), lambda: Poisson(0), lambda: Bursty(1, on=0)],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=":"):
        make()
