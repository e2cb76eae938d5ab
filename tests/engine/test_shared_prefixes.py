"""What sequences have in common is computed once, and only for one version."""

from server.engine.messages import Started
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import Simulation

A, B = named("a"), named("b")


def test_equal_prompts_of_one_version_share_blocks_and_of_two_versions_do_not() -> None:
    simulation = Simulation()
    for adapter in (A, A, B, None):
        sequence = simulation.arrive(adapter, prompt=9)
        sequence.tokens[:] = range(9)
        simulation.run()
    assert [started.cached_tokens for started in simulation.seen(Started)] == [0, 8, 0, 0]


def prefilled(simulation: Simulation) -> int:
    """Prompt tokens computed so far."""
    return sum(
        row.count for batch in simulation.steps for row in batch.rows if row.start < len(row.sequence.request.prompt)
    )


def test_equal_prompts_that_arrive_together_are_computed_once() -> None:
    simulation = Simulation(rows=8)
    first = simulation.arrive(prompt=18)
    others = [simulation.arrive(like=first) for _ in range(3)]
    stranger = simulation.arrive(prompt=2)
    assert simulation.step() == [first.id, stranger.id]
    simulation.run()
    started = {event.request_id: event.cached_tokens for event in simulation.seen(Started)}
    assert [started[other.id] for other in others] == [16] * 3
    assert prefilled(simulation) == 18 + 3 * 2 + 2


def test_one_that_lacks_blocks_is_not_overtaken_by_a_younger_group_while_others_wait_for_a_prefix() -> None:
    simulation = Simulation(blocks=12, rows=8, batch_tokens=16, window=0.0)
    first = simulation.arrive(prompt=18, tokens=8)
    simulation.step()
    like, large = simulation.arrive(like=first), simulation.arrive(prompt=30)
    small = simulation.arrive(A, prompt=4)
    resident_order = simulation.admissions
    simulation.run()
    order = resident_order()
    assert order.index(large.id) < order.index(small.id)
    assert order.index(like.id) > order.index(first.id)


def test_a_prompt_whose_scores_are_wanted_is_computed_in_full() -> None:
    simulation = Simulation()
    first = simulation.arrive(prompt=18)
    simulation.run()
    scored = simulation.arrive(like=first, prompt_logprobs=0)
    simulation.run()
    (started,) = [event for event in simulation.seen(Started) if event.request_id == scored.id]
    assert started.cached_tokens == 0


def test_one_that_waits_for_a_prefix_goes_on_when_its_forerunner_is_cancelled() -> None:
    simulation = Simulation(batch_tokens=4)
    first = simulation.arrive(prompt=18)
    second = simulation.arrive(like=first)
    assert simulation.step() == [first.id]
    simulation.scheduler.remove(first)
    simulation.run()
    assert second.finished == "length"
    (started,) = [event for event in simulation.seen(Started) if event.request_id == second.id]
    assert started.cached_tokens == 4
