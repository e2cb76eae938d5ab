"""Turns by tokens served: shares, priorities, and a bound on waiting."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.fair_queue import AGED_TURN, INPUT_WEIGHT, OUTPUT_WEIGHT, Fairness
from server.engine.sequence import Sequence
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import Simulation

A, B, C = named("a"), named("b"), named("c")


def steps_until_started(simulation: Simulation, sequence: Sequence) -> int:
    for steps in range(2000):
        if sequence.started:
            return steps
        simulation.step()
    raise AssertionError("never started")


def warm(simulation: Simulation, *names: str) -> None:
    for name in names:
        simulation.arrive(named(name), tokens=1)
        simulation.run()
    simulation.steps.clear()


def queue_behind_a_hot_adapter(fairness: Fairness) -> int:
    """Steps until a single request for B starts that comes behind 40 for A."""
    simulation = Simulation(rows=2, max_group=2, fairness=fairness, blocks=200)
    warm(simulation, "a", "b")
    for _ in range(40):
        simulation.arrive(A, tokens=8)
        simulation.now += 0.0001
    for _ in range(3):
        simulation.step()
    return steps_until_started(simulation, simulation.arrive(B, tokens=8))


def test_a_hot_adapters_queue_does_not_keep_another_waiting() -> None:
    assert queue_behind_a_hot_adapter("tokens") <= 2 * 8


def test_without_fairness_it_does() -> None:
    assert queue_behind_a_hot_adapter("none") > 10 * 8


def test_a_tenant_with_many_adapters_has_one_tenants_share() -> None:
    simulation = Simulation(rows=1, max_group=1, blocks=200, device_adapters=8)
    names = [f"x{number}" for number in range(6)]
    warm(simulation, "a", *names)
    for number in range(24):
        simulation.arrive(named(names[number % 6]), tenant="many", tokens=4)
        simulation.now += 0.0001
    for _ in range(6):
        simulation.arrive(A, tenant="one", tokens=4)
    simulation.run()
    first = [name.split("-")[0] for name in simulation.admissions()[:12]]
    assert first.count("a") == 6


def test_longer_answers_count_for_more() -> None:
    simulation = Simulation(rows=1, max_group=1, blocks=200)
    warm(simulation, "a", "b")
    for _ in range(12):
        simulation.arrive(A, tokens=18)
        simulation.arrive(B, tokens=3)
    while sum(name.startswith("a") for name in simulation.admissions()) < 3:
        simulation.step()
    assert sum(name.startswith("b") for name in simulation.admissions()) >= 7


def test_priorities_order_one_tenants_requests_and_no_one_elses() -> None:
    simulation = Simulation(rows=1, max_group=1, blocks=200)
    warm(simulation, "a", "b")
    low = simulation.arrive(A, tenant="t", tokens=2)
    other = simulation.arrive(B, tenant="u", tokens=2)
    high = simulation.arrive(B, tenant="t", priority=5, tokens=2)
    urgent = simulation.arrive(A, tenant="t", priority=9, tokens=2)
    simulation.run()
    assert simulation.admissions() == [urgent.id, other.id, high.id, low.id]


def test_an_urgent_request_does_not_take_less_urgent_neighbours_along_before_another_group() -> None:
    simulation = Simulation(rows=4, blocks=200, device_adapters=3, window=0.0)
    warm(simulation, "a", "b")
    patient = [simulation.arrive(A, priority=-100, tokens=8) for _ in range(10)]
    normal = simulation.arrive(B, tokens=8)
    urgent = simulation.arrive(A, priority=10, tokens=8)
    simulation.step()
    assert normal.started
    assert urgent.started
    simulation.step()
    assert sum(one.started for one in patient) == 2


def test_a_request_of_the_lowest_priority_has_its_turn_in_the_end() -> None:
    simulation = Simulation(rows=1, max_group=1, blocks=200, starvation=0.5, step_seconds=0.010)
    low = simulation.arrive(priority=-100, tokens=2)
    for _ in range(400):
        simulation.arrive(priority=100, tokens=2)
        simulation.step()
        if low.started:
            break
    assert low.started
    assert simulation.now - low.arrived < 0.5 + (AGED_TURN + 1) * 2 * 0.010


def test_an_aged_turn_is_not_spent_while_its_request_waits_for_a_prefix() -> None:
    simulation = Simulation(rows=4, blocks=400, starvation=0.5, window=0.0)
    forerunner = simulation.arrive(tenant="t", prompt=20)
    simulation.now += 0.001
    aged = simulation.arrive(tenant="u", like=forerunner)
    neighbour = simulation.arrive(tenant="u")
    simulation.now += 1.0
    for _ in range(AGED_TURN - 2):
        simulation.scheduler._fair.took_turn(None)
    simulation.step()
    assert (forerunner.started, aged.started, neighbour.started) == (True, False, True)
    assert simulation.scheduler._fair._since_aged == AGED_TURN


def test_adapters_that_come_new_for_ever_do_not_starve_one_that_has_been_served() -> None:
    simulation = Simulation(rows=1, max_group=1, starvation=0.5, step_seconds=0.010, device_adapters=4)
    warm(simulation, "a")
    simulation.arrive(A, tokens=40)
    simulation.step()
    waiting = simulation.arrive(A, tokens=2)
    for number in range(400):
        simulation.arrive(named(f"new{number}"), tokens=2)
        simulation.step()
        if waiting.started:
            break
    assert waiting.started


def test_a_large_prompt_that_lacks_blocks_keeps_its_turn_however_much_its_tenant_is_served_meanwhile() -> None:
    simulation = Simulation(blocks=12, rows=8, window=0.0)
    running = simulation.arrive(tenant="t", prompt=20, tokens=8)
    simulation.step()
    large = simulation.arrive(tenant="t", prompt=36, tokens=2)
    simulation.step()
    for _ in range(6):
        small = simulation.arrive(tenant="u", prompt=4, tokens=2)
        simulation.step()
    simulation.run()
    order = simulation.admissions()
    assert order.index(running.id) < order.index(large.id) < order.index(small.id)
    assert order.index(large.id) == 1


arrival = st.tuples(
    st.sampled_from(["", "t", "u"]),
    st.sampled_from([None, "a", "b", "c"]),
    st.integers(-3, 3),
    st.integers(1, 24),
    st.integers(1, 10),
    st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(arrival, min_size=1, max_size=30),
    rows=st.integers(1, 4),
    max_group=st.integers(1, 4),
    blocks=st.integers(12, 40),
    fairness=st.sampled_from(["tokens", "none"]),
    starvation=st.sampled_from([0.01, 0.1, 30.0]),
)
def test_every_request_ends_and_once_it_is_due_few_groups_go_before_it(
    arrivals: list[tuple[str, str | None, int, int, int, int]],
    rows: int,
    max_group: int,
    blocks: int,
    fairness: Fairness,
    starvation: float,
) -> None:
    simulation = Simulation(
        rows=rows, max_group=max_group, blocks=blocks, fairness=fairness, starvation=starvation, window=0.0
    )
    warm(simulation, "a", "b", "c")
    sequences: list[Sequence] = []
    groups_before_due: dict[str, int] = {}

    def step() -> None:
        if not simulation.step():
            simulation.now += 0.005
        for sequence in sequences:
            if simulation.now - sequence.arrived > starvation:
                groups_before_due.setdefault(sequence.id, len(groups()))

    def groups() -> list[str]:
        return simulation.admissions()

    for tenant, name, priority, prompt, tokens, pause in arrivals:
        adapter = named(name) if name else None
        sequences.append(simulation.arrive(adapter, tenant=tenant, priority=priority, prompt=prompt, tokens=tokens))
        simulation.now += 0.0001
        for _ in range(pause):
            step()
    while simulation.scheduler.has_work:
        step()
    simulation.scheduler.check_empty()
    order = groups()
    for number, sequence in enumerate(sequences):
        assert sequence.generated == arrivals[number][4]
        if sequence.id in groups_before_due:
            # `number` requests came earlier. Each of them and itself: AGED_TURN groups, and one that lacked blocks.
            bound = (AGED_TURN + 1) * max_group * (number + 1)
            assert order.index(sequence.id) - groups_before_due[sequence.id] <= bound


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)), min_size=24, max_size=24),
    rows=st.integers(1, 4),
    max_group=st.integers(1, 4),
    tenants=st.sampled_from([("", ""), ("t", "u")]),
)
def test_two_that_always_have_requests_waiting_are_served_alike(
    lengths: list[tuple[int, int]], rows: int, max_group: int, tenants: tuple[str, str]
) -> None:
    """The bound of the paper, with groups: twice what one turn and all rows can add to one counter."""
    simulation = Simulation(rows=rows, max_group=max_group, blocks=400, window=0.0, starvation=1e9)
    warm(simulation, "a", "b")
    sequences = [
        (side, simulation.arrive(adapter, tenant=tenants[side], prompt=prompt, tokens=tokens))
        for prompt, tokens in lengths
        for side, adapter in ((0, A), (1, B))
    ]
    bound = 2 * (max_group * 60 * INPUT_WEIGHT + rows * 12 * OUTPUT_WEIGHT)
    while all(any(not one.started for other, one in sequences if other == side) for side in (0, 1)):
        simulation.step()
        served = [0.0, 0.0]
        for side, one in sequences:
            if one.started:
                served[side] += INPUT_WEIGHT * len(one.request.prompt) + OUTPUT_WEIGHT * one.generated
        assert abs(served[0] - served[1]) <= bound


@pytest.mark.parametrize("tenants", [("", ""), ("t", "u")])
def test_many_small_requests_are_served_as_much_as_few_large_ones_while_rows_are_free(tenants: tuple[str, str]) -> None:
    simulation = Simulation(rows=4, max_group=1, batch_tokens=256, blocks=400, window=0.0, starvation=1e9)
    warm(simulation, "a", "b")
    small = [simulation.arrive(A, tenant=tenants[0], prompt=1, tokens=1) for _ in range(400)]
    large = [simulation.arrive(B, tenant=tenants[1], prompt=60, tokens=1) for _ in range(40)]
    while any(not one.started for one in small) and any(not one.started for one in large):
        simulation.step()
        served = sum(3 for one in small if one.started), sum(62 for one in large if one.started)
        assert abs(served[0] - served[1]) <= 2 * (60 * INPUT_WEIGHT + 4 * OUTPUT_WEIGHT)


@pytest.mark.parametrize("fairness", ["tokens", "none"])
def test_loads_go_by_age_so_that_the_oldest_gets_its_place(fairness: Fairness) -> None:
    simulation = Simulation(rows=4, device_adapters=1, fairness=fairness, timeout=30, blocks=200)
    sequences = [
        simulation.arrive(adapter, tenant=tenant, tokens=6) for adapter, tenant in ((A, "t"), (B, "u"), (C, "t"))
    ]
    simulation.run()
    assert [sequence.digest for sequence in sequences] == [A.digest, B.digest, C.digest]
    assert [name[0] for name in simulation.admissions()] == ["a", "b", "c"]
