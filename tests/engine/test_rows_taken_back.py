"""A hot adapter that holds every row gives some to others, and loses nothing but time."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.fair_queue import Fairness
from server.engine.messages import GroupReport, Started
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import ADAPTER_BYTES, Simulation

HOT, NEW, OTHER = named("hot"), named("new"), named("other")


def taken_by_the_hot_adapter(
    *,
    rows: int = 4,
    fairness: Fairness = "tokens",
    prefix_cache: bool = True,
    waiting: int = 0,
    device_adapters: int = 4,
) -> Simulation:
    """All rows hold long answers of one adapter; another is on the device, too."""
    simulation = Simulation(
        rows=rows, blocks=400, window=0, fairness=fairness, prefix_cache=prefix_cache, device_adapters=device_adapters
    )
    for adapter in (NEW, HOT):
        simulation.arrive(adapter, tokens=1)
        simulation.run()
    simulation.events.clear()
    simulation.steps.clear()
    for _ in range(rows + waiting):
        simulation.arrive(HOT, tokens=60)
        simulation.now += 0.001
    simulation.step()
    return simulation


def test_a_newcomer_has_a_row_at_the_next_step() -> None:
    simulation = taken_by_the_hot_adapter()
    newcomer = simulation.arrive(NEW)
    assert newcomer.id in simulation.step()


def test_without_fairness_it_waits_for_an_answer_to_end() -> None:
    simulation = taken_by_the_hot_adapter(fairness="none")
    newcomer = simulation.arrive(NEW)
    waited = next(step for step in range(100) if newcomer.id in simulation.step())
    assert waited > 50


def test_without_a_prefix_cache_nothing_is_computed_twice() -> None:
    simulation = taken_by_the_hot_adapter(prefix_cache=False)
    simulation.arrive(NEW)
    simulation.run()
    assert simulation.scheduler.rows_taken_back == 0


def test_a_hot_queue_gives_half_of_the_rows_and_no_more() -> None:
    simulation = taken_by_the_hot_adapter(waiting=6)
    for _ in range(6):
        simulation.arrive(NEW, tokens=60)
    for _ in range(20):
        ran = simulation.step()
    assert sorted(name.split("-")[0] for name in ran) == ["hot", "hot", "new", "new"]
    assert simulation.scheduler.rows_taken_back == 2


def test_the_answer_whose_row_was_taken_goes_on_where_it_was() -> None:
    simulation = taken_by_the_hot_adapter()
    simulation.arrive(NEW)
    simulation.run()
    assert simulation.scheduler.rows_taken_back == 1
    computed = {row.sequence.id: 0 for batch in simulation.steps for row in batch.rows}
    for batch in simulation.steps:
        for row in batch.rows:
            computed[row.sequence.id] += row.count
    hot = sorted(count for name, count in computed.items() if name.startswith("hot"))
    # The last block of the one was not full, and is computed again with the token that follows.
    assert hot[0] == hot[1] == hot[2] <= hot[3] <= hot[0] + simulation.kv.block_size


def test_it_is_announced_once_and_counted_in_one_group() -> None:
    simulation = taken_by_the_hot_adapter()
    simulation.arrive(NEW)
    simulation.run()
    assert len(simulation.seen(Started)) == 5
    assert sum(group.size for group in simulation.seen(GroupReport)) == 5


def test_it_keeps_its_adapter_although_another_wants_the_space() -> None:
    simulation = taken_by_the_hot_adapter(rows=2, device_adapters=2)
    simulation.arrive(NEW, tokens=30)
    simulation.step()
    simulation.arrive(OTHER)
    simulation.run()
    assert not [started for started in simulation.seen(Started) if started.fallback]


def test_it_may_be_cancelled_while_it_waits_again() -> None:
    simulation = taken_by_the_hot_adapter()
    simulation.arrive(NEW)
    ran = simulation.step()
    (waiting,) = [sequence for sequence in simulation.scheduler.sequences() if sequence.id not in ran]
    assert waiting.started
    simulation.scheduler.remove(waiting)
    simulation.run()


arrivals = st.lists(
    st.tuples(
        st.sampled_from(["hot", "hot", "hot", "new", "other", None]),
        st.sampled_from(["", "t"]),
        st.integers(1, 20),
        st.integers(1, 25),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    min_size=4,
    max_size=30,
)


@given(arrivals=arrivals, rows=st.integers(2, 4), blocks=st.integers(14, 60), device_adapters=st.integers(1, 3))
def test_every_answer_ends_whatever_is_taken_back(
    arrivals: list[tuple[str | None, str, int, int, int, int]], rows: int, blocks: int, device_adapters: int
) -> None:
    simulation = Simulation(rows=rows, blocks=blocks, device_adapters=device_adapters, window=0.002)
    asked = []
    for name, tenant, prompt, tokens, priority, steps in arrivals:
        adapter = named(name) if name else None
        asked.append(
            (simulation.arrive(adapter, prompt=prompt, tokens=tokens, tenant=tenant, priority=priority), tokens)
        )
        for _ in range(steps):
            simulation.step()
    simulation.run()
    assert [sequence.generated for sequence, _ in asked] == [tokens for _, tokens in asked]
    assert len(simulation.seen(Started)) == len(asked)
    assert simulation.residency.memory.used_bytes <= device_adapters * ADAPTER_BYTES
