"""Rows and adapters that share the device's memory: who makes way for whom."""

from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.messages import EvictionReport, Failed, LoadReport, Started
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import Simulation
from tests.scripted_loader import ScriptedLoader, form_of

NAMES = "abcdefgh"


def idle_adapters(simulation: Simulation, names: str = NAMES) -> None:
    """Bring adapters onto the device with one short request each."""
    for name in names:
        simulation.arrive(named(name), tokens=1)
        simulation.run()
    simulation.events.clear()
    simulation.steps.clear()


def resident(simulation: Simulation) -> str:
    return "".join(entry.name for entry in simulation.residency.resident())


def test_adapters_fill_what_no_row_uses_a_long_prompt_pushes_the_coldest_out_and_they_come_back() -> None:
    simulation = Simulation(blocks=10, device_adapters=2, shared=6)
    idle_adapters(simulation)
    assert resident(simulation) == NAMES
    simulation.arrive(prompt=32, tokens=4)
    simulation.arrive(prompt=16, tokens=2)
    simulation.run()
    evicted = [report.name for report in simulation.seen(EvictionReport)]
    assert simulation.scheduler.preemptions == 0
    assert not simulation.seen(Failed)
    assert set(evicted) <= set(NAMES[2:]), "what lies in the adapters' own pages is of no use to rows"
    assert evicted == sorted(evicted), "the coldest leave first"
    assert evicted
    idle_adapters(simulation)
    assert resident(simulation) == NAMES


def test_rows_leave_adapters_their_floor_and_adapters_leave_rows_theirs() -> None:
    simulation = Simulation(blocks=10, device_adapters=2, shared=6, rows=3)
    idle_adapters(simulation)
    busy = [simulation.arrive(prompt=20, tokens=20) for _ in range(3)]
    for _ in range(10):
        simulation.step()
    assert len(simulation.residency.resident()) >= 2
    assert sum(sequence.started for sequence in busy) >= 1
    simulation.run()
    assert all(sequence.generated == 20 for sequence in busy)


def test_an_adapter_that_is_needed_still_comes_while_rows_use_all_else() -> None:
    simulation = Simulation(blocks=10, device_adapters=2, shared=6, rows=4)
    for _ in range(2):
        simulation.arrive(prompt=28, tokens=4)
    simulation.step()
    assert simulation.pages.in_use == 14
    simulation.arrive(named("a"))
    simulation.arrive(named("b"))
    simulation.run()
    assert [report.failure for report in simulation.seen(LoadReport)] == [None, None]
    assert not simulation.seen(EvictionReport)


def test_a_growing_row_takes_an_idle_adapters_page_before_it_takes_another_row() -> None:
    simulation = Simulation(blocks=5, device_adapters=1, shared=4, rows=2)
    idle_adapters(simulation, "abcde")
    rows = [simulation.arrive(prompt=7, tokens=8) for _ in range(2)]
    simulation.run()
    assert simulation.scheduler.preemptions == 0
    assert [report.name for report in simulation.seen(EvictionReport)] == ["b", "c", "d"]
    assert all(row.generated == 8 for row in rows)


def test_a_row_is_preempted_where_every_adapter_in_its_way_is_in_use() -> None:
    simulation = Simulation(blocks=5, device_adapters=1, shared=2, rows=3, window=0)
    idle_adapters(simulation, "abc")
    rows = [simulation.arrive(named(name), prompt=3, tokens=12) for name in "abc"]
    simulation.run()
    assert simulation.scheduler.preemptions > 0
    assert not simulation.seen(LoadReport), "none was pushed out before it had served"
    assert all(row.generated == 12 for row in rows)


def test_a_request_does_not_push_its_own_adapter_out() -> None:
    simulation = Simulation(blocks=4, device_adapters=1, shared=3)
    idle_adapters(simulation, "abcd")
    simulation.arrive(named("b"), prompt=20, tokens=2)
    simulation.run()
    assert [report.name for report in simulation.seen(EvictionReport)] == ["c", "d"]
    (started,) = simulation.seen(Started)
    assert started.fallback is None
    assert not simulation.seen(LoadReport)


def test_nothing_is_pushed_out_in_vain() -> None:
    simulation = Simulation(blocks=6, device_adapters=1, shared=2, rows=2)
    idle_adapters(simulation, "abc")
    simulation.arrive(named("b"), prompt=4, tokens=12)
    simulation.step()
    blocked = simulation.arrive(prompt=24, tokens=2)
    simulation.step()
    assert not blocked.started
    assert not simulation.seen(EvictionReport)
    simulation.run()
    assert blocked.generated == 2


def test_prefixes_make_way_for_adapters_and_adapters_for_rows() -> None:
    simulation = Simulation(blocks=4, device_adapters=1, shared=4)
    first = simulation.arrive(prompt=32, tokens=1)
    simulation.run()
    assert simulation.pages.kept > 4
    idle_adapters(simulation, "abcde")
    assert resident(simulation) == "abcde"
    assert simulation.pages.kept == 4
    again = simulation.arrive(prompt=12, like=first, tokens=1)
    simulation.run()
    assert again.generated == 1


@given(
    arrivals=st.lists(
        st.tuples(
            st.sampled_from([None, *"abcde"]),
            st.integers(1, 16),
            st.integers(1, 12),
            st.integers(0, 4),
            st.booleans(),
        ),
        min_size=1,
        max_size=14,
    ),
    rows=st.integers(1, 4),
    blocks=st.integers(7, 12),
    shared=st.integers(0, 8),
    device_adapters=st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_every_request_ends_and_every_page_comes_back(
    arrivals: list[tuple[str | None, int, int, int, bool]], rows: int, blocks: int, shared: int, device_adapters: int
) -> None:
    simulation = Simulation(rows=rows, blocks=blocks, device_adapters=device_adapters, shared=shared)
    ended = []
    for adapter, prompt, tokens, pause, cancel in arrivals:
        sequence = simulation.arrive(named(adapter) if adapter else None, prompt=prompt, tokens=tokens)
        ended.append((sequence, tokens, cancel))
        for _ in range(pause):
            if not simulation.step():
                simulation.now += 0.005
        if cancel and simulation.scheduler.get(sequence.id):
            simulation.scheduler.remove(sequence)
    simulation.run()
    assert all(cancel or sequence.generated == tokens for sequence, tokens, cancel in ended)
    assert not any(started.fallback for started in simulation.seen(Started))
    assert simulation.pages.adapters == len(simulation.residency.resident())


def test_a_group_whose_version_was_given_up_for_another_of_the_same_step_waits_for_it_again() -> None:
    simulation = Simulation(
        blocks=8, device_adapters=4, shared=8, window=0, loader=ScriptedLoader(immediate=form_of(4 * 128))
    )
    idle_adapters(simulation, "abc")
    simulation.arrive(prompt=33, tokens=2)
    waiting = [simulation.arrive(named(name), tokens=1) for name in "abc"]
    simulation.run()
    assert simulation.seen(EvictionReport)
    assert [sequence.digest for sequence in waiting] == [named(name).digest for name in "abc"]


def test_a_version_that_an_older_request_waits_for_is_not_given_up_for_a_younger_one() -> None:
    simulation = Simulation(
        blocks=8, device_adapters=4, shared=8, window=0, loader=ScriptedLoader(immediate=form_of(4 * 128))
    )
    idle_adapters(simulation, "abc")
    simulation.now += 0.001
    older = [simulation.arrive(named(name), tenant="t", tokens=3) for name in "abc"]
    simulation.now += 0.001
    younger = simulation.arrive(prompt=33, tokens=2, tenant="u", priority=9)
    simulation.scheduler._fair.lacked_blocks(younger)
    simulation.run()
    assert simulation.admissions() == [*(sequence.id for sequence in older), younger.id]
    assert simulation.seen(LoadReport) == []
