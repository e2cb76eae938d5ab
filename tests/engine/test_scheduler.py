"""The order in which requests get their rows."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.loader import LoadFailure
from server.engine.fair_queue import Fairness
from server.engine.messages import EvictionReport, Failed, GroupReport, LoadReport, LookupReport, Started
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import ADAPTER_BYTES, Simulation
from tests.scripted_loader import ScriptedLoader, form_of

A, B, C = named("a"), named("b"), named("c")


def resident(simulation: Simulation, *adapters: str) -> None:
    """Bring adapters onto the device with one short request each."""
    for name in adapters:
        simulation.arrive(named(name), tokens=1)
        simulation.run()
    simulation.events.clear()
    simulation.steps.clear()


def test_an_idle_engine_with_a_resident_adapter_does_not_wait() -> None:
    simulation = Simulation(window=0.050)
    resident(simulation, "a")
    first = simulation.arrive(A)
    assert simulation.step() == [first.id]
    (group,) = simulation.seen(GroupReport)
    assert group.held_seconds == 0


def test_a_busy_engine_holds_the_first_of_a_group_for_company() -> None:
    simulation = Simulation(window=0.010, step_seconds=0.002)
    resident(simulation, "a")
    running = simulation.arrive(tokens=50)
    simulation.step()
    first = simulation.arrive(A)
    assert simulation.step() == [running.id]
    second = simulation.arrive(A)
    joined = next(ran for ran in iter(simulation.step, None) if first.id in ran)
    assert second.id in joined
    group = simulation.seen(GroupReport)[-1]
    assert group.size == 2
    assert 0 < group.held_seconds <= 0.010


def test_no_request_is_held_longer_than_the_window_however_long_a_step_takes() -> None:
    simulation = Simulation(window=0.010, step_seconds=0.200)
    resident(simulation, "a")
    simulation.arrive(tokens=50)
    simulation.step()
    simulation.step()
    simulation.arrive(A)
    simulation.run()
    assert all(group.held_seconds <= 0.010 for group in simulation.seen(GroupReport))


def test_a_full_group_does_not_wait_for_the_window() -> None:
    simulation = Simulation(window=0.050, max_group=2)
    resident(simulation, "a")
    simulation.arrive(tokens=50)
    simulation.step()
    pair = [simulation.arrive(A), simulation.arrive(A)]
    assert set(simulation.step()) >= {sequence.id for sequence in pair}


@pytest.mark.parametrize(
    ("fairness", "groups", "sizes"),
    [
        ("none", ["a", "b"], [4, 4]),
        # Neither waits until the base's answers end: each gets rows as they become its own.
        ("tokens", ["a", "b", "a", "b"], [1, 1, 1, 1, 2, 1, 1]),
    ],
)
def test_interleaved_arrivals_at_a_busy_engine_are_prefilled_in_groups_that_leave_rows_even(
    fairness: Fairness, groups: list[str], sizes: list[int]
) -> None:
    simulation = Simulation(rows=4, fairness=fairness)
    blocking = [simulation.arrive(tokens=12) for _ in range(4)]
    simulation.step()
    for _ in range(4):
        simulation.arrive(A, tokens=3)
        simulation.arrive(B, tokens=3)
    simulation.run()
    order = [name[0] for name in simulation.admissions()[len(blocking) :]]
    assert [key for key, _ in itertools.groupby(order)] == groups
    assert [(load.name, load.failure) for load in simulation.seen(LoadReport)] == [("a", None), ("b", None)]
    assert [group.size for group in simulation.seen(GroupReport) if group.digest] == sizes


def test_rows_of_one_adapter_are_neighbours_in_the_batch() -> None:
    simulation = Simulation(rows=6)
    for adapter in (A, None, B, A, B, None):
        simulation.arrive(adapter)
    simulation.run()
    for batch in simulation.steps:
        digests = [row.sequence.digest for row in batch.rows]
        assert len([key for key, _ in itertools.groupby(digests)]) == len(set(digests))


def test_a_steady_stream_of_one_adapter_does_not_starve_another() -> None:
    simulation = Simulation(rows=2, max_group=4)
    for _ in range(6):
        simulation.arrive(A)
    waiting = simulation.arrive(B)
    for _ in range(60):
        simulation.arrive(A)
        simulation.step()
        if waiting.started:
            break
    assert waiting.started


def test_a_prompt_is_prefilled_in_chunks_while_others_decode() -> None:
    simulation = Simulation(batch_tokens=8, rows=4, window=0)
    talking = simulation.arrive(tokens=20)
    simulation.step()
    simulation.arrive(prompt=30, tokens=1)
    counts = []
    for _ in range(6):
        simulation.step()
        counts.append({row.sequence.id: row.count for row in simulation.steps[-1].rows})
    assert all(step[talking.id] == 1 for step in counts)
    assert [sum(step.values()) for step in counts[:4]] == [8, 8, 8, 8]


def test_when_blocks_run_out_the_latest_is_preempted_and_still_ends() -> None:
    simulation = Simulation(blocks=8, rows=4)
    first = simulation.arrive(A, prompt=8, tokens=16)
    second = simulation.arrive(B, prompt=8, tokens=16)
    simulation.run()
    assert simulation.scheduler.preemptions > 0
    assert (first.generated, second.generated) == (16, 16)
    assert len(simulation.seen(Started)) == 2
    assert first.computed >= second.computed


def test_a_preempted_sequence_keeps_its_adapter_although_another_wants_the_space() -> None:
    simulation = Simulation(blocks=8, rows=4, device_adapters=2)
    for adapter in (A, B):
        simulation.arrive(adapter, prompt=8, tokens=16)
    simulation.step()
    simulation.arrive(C, prompt=4, tokens=2)
    simulation.run()
    assert not [started for started in simulation.seen(Started) if started.fallback]
    assert [load.name for load in simulation.seen(LoadReport)] == ["a", "b", "c"]


def test_each_request_is_one_cache_lookup() -> None:
    simulation = Simulation()
    for adapter in (A, A, None):
        simulation.arrive(adapter)
        simulation.run()
    assert [lookup.hit for lookup in simulation.seen(LookupReport)] == [False, True]


def test_a_failed_load_is_answered_by_the_base_and_says_so() -> None:
    loader = ScriptedLoader()
    simulation = Simulation(loader=loader)
    simulation.arrive(A)
    simulation.step()
    loader.end(A.digest, LoadFailure("load_failed", "torn"))
    simulation.run()
    (started,) = simulation.seen(Started)
    assert (started.digest, started.fallback, started.detail) == (None, "load_failed", "torn")


def test_a_strict_request_fails_instead_and_disturbs_no_other() -> None:
    loader = ScriptedLoader()
    simulation = Simulation(loader=loader)
    strict = simulation.arrive(A, fallback="error")
    other = simulation.arrive()
    simulation.step()
    loader.end(A.digest, LoadFailure("checksum_mismatch", "differs"))
    simulation.run()
    (failed,) = simulation.seen(Failed)
    assert (failed.request_id, failed.code, failed.reason) == (strict.id, "adapter_unavailable", "checksum_mismatch")
    assert other.generated == 4


def test_an_adapter_that_does_not_come_in_time_is_a_timeout() -> None:
    simulation = Simulation(loader=ScriptedLoader(), timeout=2.0)
    arrived = simulation.now
    simulation.arrive(A)
    simulation.run(limit=5000)
    (started,) = simulation.seen(Started)
    assert started.fallback == "timeout"
    assert 2.0 <= simulation.now - arrived < 2.2


def test_busy_rows_are_waited_for_without_a_fallback() -> None:
    simulation = Simulation(rows=1, timeout=0.05, step_seconds=0.010)
    resident(simulation, "a")
    for _ in range(4):
        simulation.arrive(A, tokens=10)
    simulation.run()
    assert [started.fallback for started in simulation.seen(Started)] == [None] * 4


def test_device_space_that_is_in_use_is_waited_for() -> None:
    simulation = Simulation(device_adapters=1, timeout=30)
    simulation.arrive(A, tokens=40)
    simulation.step()
    late = simulation.arrive(B, tokens=4)
    simulation.run()
    assert late.digest == B.digest
    assert [eviction.name for eviction in simulation.seen(EvictionReport)] == ["a"]


def test_a_resident_adapter_with_endless_company_gives_its_space_up_in_the_end() -> None:
    simulation = Simulation(rows=2, device_adapters=1, timeout=30, step_seconds=0.050, max_group=2)
    simulation.arrive(A, tokens=8)
    simulation.step()
    waiting = simulation.arrive(B, tokens=4)
    for _ in range(400):
        simulation.arrive(A, tokens=8)
        simulation.step()
        if waiting.started:
            break
    assert waiting.digest == B.digest
    assert waiting.started


def test_a_preempted_row_is_resumed_although_an_older_group_waits_for_its_space() -> None:
    loader = ScriptedLoader()
    simulation = Simulation(loader=loader, device_adapters=1, blocks=10, rows=4, step_seconds=0.050)
    older = simulation.arrive(A, tokens=4)
    simulation.arrive(prompt=8, tokens=20)
    simulation.now += 0.01
    younger = simulation.arrive(B, prompt=8, tokens=20)
    simulation.step()
    loader.end(B.digest, form_of(ADAPTER_BYTES))
    simulation.step()
    loader.end(A.digest, form_of(ADAPTER_BYTES))
    began = simulation.now
    simulation.run()
    assert simulation.scheduler.preemptions > 0
    assert (older.digest, younger.digest) == (A.digest, B.digest)
    assert simulation.now - began < 10


def test_waiting_for_a_row_is_not_waiting_for_an_adapter() -> None:
    simulation = Simulation(rows=1, device_adapters=1, timeout=1.0, step_seconds=0.5)
    simulation.arrive(A, tokens=20)
    simulation.step()
    simulation.arrive(B, tokens=2)
    simulation.run()
    assert [started.fallback for started in simulation.seen(Started)] == [None, None]


def test_a_busy_device_is_waited_for_beyond_the_timeout_of_loads() -> None:
    simulation = Simulation(rows=8, blocks=400, device_adapters=2, window=0, timeout=1.0, step_seconds=0.05)
    resident(simulation, "a", "b")
    for adapter in (A, B):
        simulation.arrive(adapter, tokens=100)
    simulation.step()
    late = [simulation.arrive(named(name), tokens=2) for name in "cde"]
    simulation.run()
    assert all(sequence.failure is None for sequence in late)
    assert simulation.now - late[0].arrived > 4


def test_device_space_that_younger_requests_hold_for_ever_ends_in_a_fallback() -> None:
    simulation = Simulation(rows=8, blocks=400, device_adapters=1, window=0, timeout=1.0, step_seconds=0.05)
    resident(simulation, "a")
    simulation.residency.device.kept = frozenset({A.digest})
    waiting = simulation.arrive(B, tokens=2)
    for _ in range(40):
        simulation.arrive(A, tokens=4)
        assert simulation.step()
    assert waiting.failure is not None
    assert waiting.failure.reason == "timeout"
    assert waiting.started


def test_a_step_in_which_every_row_was_taken_is_not_charged_when_one_ends_with_it() -> None:
    simulation = Simulation(rows=1, timeout=1.0, step_seconds=3.0, loader=ScriptedLoader())
    simulation.arrive(tokens=1)
    waiting = simulation.arrive(A, tokens=1)
    simulation.step()
    simulation.step()
    assert waiting.adapter_wait == 0


def test_other_adapters_run_on_while_one_is_drained_for_an_older_group() -> None:
    simulation = Simulation(rows=8, device_adapters=2, timeout=60, step_seconds=0.5, max_group=1)
    resident(simulation, "a", "b")
    simulation.arrive(A, tokens=40)
    simulation.arrive(A, tokens=40)
    simulation.arrive(B, tokens=12)
    simulation.step()
    waiting = simulation.arrive(C, tokens=2)
    for _ in range(4):
        simulation.step()
    simulation.now += 0.01
    joining, drained = simulation.arrive(A, tokens=2), simulation.arrive(B, tokens=2)
    simulation.step()
    simulation.step()
    assert joining.started
    assert not drained.started
    simulation.run()
    assert waiting.digest == C.digest


def test_time_without_a_free_row_is_not_held_by_the_window() -> None:
    simulation = Simulation(rows=2, window=0.050, step_seconds=0.002)
    resident(simulation, "a")
    simulation.arrive(tokens=3)
    simulation.step()
    simulation.arrive(A, tokens=2)
    simulation.step()
    for _ in range(2):
        simulation.arrive(prompt=4, tokens=100)
    simulation.run(limit=4000)
    assert all(group.held_seconds <= 0.050 for group in simulation.seen(GroupReport))


def test_a_group_waits_in_order_when_blocks_are_short() -> None:
    simulation = Simulation(blocks=10, rows=8)
    simulation.arrive(prompt=20, tokens=4)
    simulation.step()
    large = simulation.arrive(A, prompt=32, tokens=2)
    simulation.now += 0.001
    small = simulation.arrive(B, prompt=4, tokens=2)
    simulation.run()
    order = simulation.admissions()
    assert order.index(large.id) < order.index(small.id)


def test_a_cancelled_sequence_is_gone_wherever_it_was() -> None:
    loader = ScriptedLoader()
    simulation = Simulation(loader=loader, rows=1)
    running = simulation.arrive()
    loading = simulation.arrive(A)
    queued = simulation.arrive()
    simulation.step()
    for sequence in (running, loading, queued):
        simulation.scheduler.remove(sequence)
    simulation.scheduler.check_empty()
    loader.end(A.digest, form_of(ADAPTER_BYTES))
    assert simulation.step() == []


arrival = st.tuples(
    st.sampled_from([None, "a", "b", "c", "d"]),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(0, 3),
    st.booleans(),
)


@given(
    arrivals=st.lists(arrival, min_size=1, max_size=25),
    rows=st.integers(1, 6),
    batch_tokens=st.integers(6, 40),
    blocks=st.integers(11, 40),
    device_adapters=st.integers(1, 3),
    window=st.sampled_from([0.0, 0.010, 0.050]),
)
def test_every_request_ends_and_leaves_nothing_behind(
    arrivals: list[tuple[str | None, int, int, int, bool]],
    rows: int,
    batch_tokens: int,
    blocks: int,
    device_adapters: int,
    window: float,
) -> None:
    simulation = Simulation(
        rows=rows, batch_tokens=batch_tokens, blocks=blocks, device_adapters=device_adapters, window=window
    )
    ended = {}
    for adapter, prompt, tokens, pause, cancel in arrivals:
        sequence = simulation.arrive(named(adapter) if adapter else None, prompt=prompt, tokens=tokens)
        ended[sequence.id] = (sequence, tokens, cancel)
        for _ in range(pause):
            if not simulation.step():
                simulation.now += 0.005
        if cancel and simulation.scheduler.get(sequence.id):
            simulation.scheduler.remove(sequence)
    simulation.run()
    for sequence, tokens, cancel in ended.values():
        assert cancel or sequence.generated == tokens
    assert simulation.residency.memory.used_bytes <= device_adapters * ADAPTER_BYTES


def test_nobody_has_a_turn_while_every_row_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(rows=1)
    simulation.arrive(tokens=8)
    simulation.step()
    simulation.arrive(A)
    monkeypatch.setattr(simulation.scheduler, "_fair", None)
    assert simulation.scheduler.schedule() is not None
