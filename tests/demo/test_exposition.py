"""Metrics read back as they were written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client import Histogram as Written

from server.demo.exposition import Exposition, Histogram

BOUNDS = (1.0, 2.0, 4.0)


def reading(values: list[float], hits: dict[str, int] | None = None) -> Exposition:
    registry = CollectorRegistry()
    histogram = Written("batch_adapters", "…", buckets=BOUNDS, registry=registry)
    for value in values:
        histogram.observe(value)
    counter = Counter("hits", "…", ["tier"], registry=registry)
    for tier, count in (hits or {}).items():
        counter.labels(tier).inc(count)
    return Exposition.parse(generate_latest(registry).decode())


@settings(deadline=None)
@given(st.lists(st.integers(0, 4).map(float), min_size=1))
def test_a_histogram_gives_mean_and_bound(values: list[float]) -> None:
    histogram = reading(values).histogram("batch_adapters")
    assert histogram.count == len(values)
    assert histogram.mean == pytest.approx(sum(values) / len(values))
    assert max(values) <= histogram.upper_bound
    assert histogram.upper_bound == min(bound for bound in BOUNDS if bound >= max(values))


@settings(deadline=None)
@given(st.lists(st.integers(0, 4).map(float)), st.lists(st.integers(0, 4).map(float)))
def test_a_difference_is_what_was_added(before: list[float], more: list[float]) -> None:
    added = reading(before + more).since(reading(before)).histogram("batch_adapters")
    alone = reading(more).histogram("batch_adapters")
    assert added.buckets == alone.buckets
    assert added.sum == pytest.approx(alone.sum)


def test_a_counter_is_summed_over_its_labels() -> None:
    after = reading([], {"device": 5, "host": 2})
    assert after.total("hits_total") == 7
    assert after.since(reading([], {"device": 4})).total("hits_total") == 3


def test_quantiles_are_linear_inside_a_bucket() -> None:
    histogram = Histogram(((1.0, 2.0), (2.0, 4.0), (float("inf"), 4.0)), sum=6.0)
    assert histogram.quantile(0.25) == pytest.approx(0.5)
    assert histogram.quantile(0.5) == pytest.approx(1.0)
    assert histogram.quantile(0.75) == pytest.approx(1.5)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert Histogram(((1.0, 0.0), (float("inf"), 3.0)), sum=30.0).quantile(0.5) == 1.0


def test_what_is_not_there_is_nothing() -> None:
    empty = Exposition.parse("")
    assert empty.total("hits_total") == 0
    histogram = empty.histogram("batch_adapters")
    assert (histogram.count, histogram.mean, histogram.upper_bound, histogram.quantile(0.5)) == (0, 0, 0, 0)
