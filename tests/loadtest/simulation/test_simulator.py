"""A simulated server: what it keeps, what it never does, and that it agrees with simpler ones."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulation.contender import NAMES, ContenderName, Trial
from loadtest.simulation.demand import BASE, Demand, demand_of
from loadtest.simulation.outcome import Outcome, percentile
from loadtest.simulation.simulated_server import Foretelling, LoadTimes, RowTimes, SimulatedServer
from loadtest.simulation.simulator import Simulation, TooLargeError
from loadtest.trace import Arrival
from server.adapters.eviction.choice import eviction_policy

AT_ONCE = LoadTimes(
    read_overhead_seconds=0.0,
    hash_bytes_per_second=1e30,
    read_bytes_per_second=1e30,
    copy_overhead_seconds=0.0,
    copy_bytes_per_second=1e30,
)
NO_WORK = RowTimes(step_seconds=0.0, row_seconds=0.0, prefill_tokens_per_second=1e30)

KEYS = [f"a{index}" for index in range(8)]
keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=150)


def arrivals(asked: Sequence[str], gap: float = 1.0) -> Demand:
    return demand_of(Arrival(gap * index, key, 10, 20) for index, key in enumerate(asked))


def immediate(device_bytes: int) -> SimulatedServer:
    return SimulatedServer(device_bytes=device_bytes, host_bytes=0, loads=AT_ONCE, rows=NO_WORK)


def outcome(name: ContenderName, asked: Sequence[str], sizes: Mapping[str, int], budget: int) -> Outcome:
    return Trial(arrivals(asked), sizes).simulate(name, immediate(budget))


@given(asked=keys, budget=st.integers(1, 8))
def test_lru_without_any_delay_is_a_plain_lru(asked: list[str], budget: int) -> None:
    cache, hits = OrderedDict[str, None](), 0
    for key in asked:
        if key in cache:
            hits += 1
            cache.move_to_end(key)
        else:
            if len(cache) == budget:
                cache.popitem(last=False)
            cache[key] = None
    assert outcome("lru", asked, dict.fromkeys(KEYS, 1), budget).device_hits == hits


@settings(max_examples=50)
@given(asked=keys, budget=st.integers(1, 8))
def test_no_policy_hits_more_than_belady_where_all_are_as_large(asked: list[str], budget: int) -> None:
    sizes = dict.fromkeys(KEYS, 1)
    best = outcome("belady", asked, sizes, budget).device_hits
    for name in ("lru", "lfu", "cost", "predicted-evicting"):
        assert outcome(name, asked, sizes, budget).device_hits <= best


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(
    asked=st.lists(st.tuples(st.sampled_from([*KEYS, BASE]), st.floats(0, 2)), min_size=1, max_size=80),
    sizes=st.lists(st.integers(1, 6), min_size=8, max_size=8),
    budget=st.integers(6, 20),
    host=st.integers(0, 20),
    rows=st.integers(1, 4),
    workers=st.integers(1, 3),
)
def test_every_request_ends_and_no_tier_outgrows_its_budget(
    name: ContenderName,
    asked: list[tuple[str, float]],
    sizes: list[int],
    budget: int,
    host: int,
    rows: int,
    workers: int,
) -> None:
    now, trace = 0.0, []
    for key, gap in asked:
        now += gap
        trace.append(Arrival(now, key, 100, 20))
    server = SimulatedServer(
        device_bytes=budget,
        host_bytes=host,
        loads=LoadTimes(workers=workers, read_overhead_seconds=0.5, copy_overhead_seconds=0.2),
        rows=RowTimes(rows=rows),
        foretelling=Foretelling(interval_seconds=1.0),
    )
    ended = Trial(demand_of(trace), dict(zip(KEYS, sizes, strict=True))).simulate(name, server)
    lookups = sum(key != BASE for key, _ in asked)
    assert ended.requests == len(asked)
    assert ended.lookups == lookups == ended.device_hits + ended.cold_starts
    assert ended.host_hits <= ended.cold_starts
    assert ended.peak_device_bytes <= budget
    assert ended.peak_host_bytes <= host
    assert ended.preloads_useful + ended.preloads_wasted <= ended.preloads


def test_the_same_trace_has_the_same_outcome_each_time() -> None:
    asked = [KEYS[(index * index) % 7] for index in range(500)]
    trial = Trial(arrivals(asked, gap=0.02), {key: 1 + index for index, key in enumerate(KEYS)})
    server = SimulatedServer(device_bytes=12, host_bytes=20)
    for name in NAMES:
        assert trial.simulate(name, server) == trial.simulate(name, server)


def test_a_cold_start_waits_for_hash_read_and_copy_and_a_host_hit_for_the_copy_alone() -> None:
    loads = LoadTimes(
        read_overhead_seconds=1.0,
        hash_bytes_per_second=10.0,
        read_bytes_per_second=5.0,
        copy_overhead_seconds=0.5,
        copy_bytes_per_second=20.0,
    )
    server = SimulatedServer(device_bytes=10, host_bytes=20, loads=loads, rows=NO_WORK)
    trial = Trial(arrivals(["a0", "a1", "a0"], gap=100.0), dict.fromkeys(KEYS, 10))
    ended = trial.simulate("lru", server)
    assert (ended.loads_from_store, ended.loads_from_host, ended.host_hits) == (2, 1, 1)
    assert ended.cold_wait_p99 == pytest.approx(1.0 + 1.0 + 2.0 + 0.5 + 0.5)
    assert ended.wait_mean == pytest.approx((5.0 + 5.0 + 1.0) / 3)


def test_requests_for_one_version_wait_for_one_load() -> None:
    server = SimulatedServer(
        device_bytes=10, host_bytes=0, loads=LoadTimes(read_overhead_seconds=10.0), rows=RowTimes(rows=2)
    )
    ended = Trial(arrivals(["a0"] * 5), {"a0": 10}).simulate("lru", server)
    assert ended.cold_starts == 5
    assert ended.loads_from_store == 1


def test_an_adapter_that_is_used_stays_and_the_next_one_waits_for_its_end() -> None:
    rows = RowTimes(rows=2, prefill_tokens_per_second=1e9, step_seconds=1.0, row_seconds=0.0)
    server = SimulatedServer(device_bytes=1, host_bytes=0, loads=AT_ONCE, rows=rows)
    ended = Trial(arrivals(["a0", "a1"]), dict.fromkeys(KEYS, 1)).simulate("lru", server)
    assert ended.peak_device_bytes == 1
    assert ended.cold_wait_p99 == pytest.approx(19.0)  # asked at 1, the first answer ends at 20


def test_what_is_foretold_is_preloaded_and_counted_as_useful_or_wasted() -> None:
    class Oracle:
        def observe(self, key: str, now: float) -> None: ...

        def hottest(self, count: int, at: float) -> Mapping[str, float]:
            return {"a1": 5.0} if at < 50 else {"a2": 5.0}

    server = SimulatedServer(device_bytes=1, host_bytes=0, foretelling=Foretelling(interval_seconds=10.0))
    simulation = Simulation(
        server,
        dict.fromkeys(KEYS, 1),
        device_policy=eviction_policy("predicted"),
        host_policy=eviction_policy("predicted"),
        forecaster=Oracle(),
    )
    trace = demand_of([Arrival(5.0, "a1", 10, 20), Arrival(95.0, "a0", 10, 20)])
    ended = simulation.run(trace, "predicted")
    assert (ended.preloads, ended.preloads_useful, ended.preloads_wasted) == (2, 1, 1)
    assert ended.device_hits == 1


def test_what_comes_before_the_measurement_only_warms_up() -> None:
    trial = Trial(arrivals(["a0", "a1", "a0", "a1"]), dict.fromkeys(KEYS, 1), measured_from=2.0)
    ended = trial.simulate("lru", immediate(2))
    assert (ended.requests, ended.device_hits, ended.cold_starts, ended.loads_from_store) == (2, 2, 0, 0)


def test_an_adapter_larger_than_the_device_is_refused() -> None:
    with pytest.raises(TooLargeError, match="a0"):
        outcome("lru", ["a0"], {"a0": 2}, 1)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.0), (0.75, 1.0), (1.0, 2.0)])
def test_percentiles_count_the_requests_that_did_not_wait(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0], share, zeros=2) == expected
