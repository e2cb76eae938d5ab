"""Which requests are ended because they are late."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.messages import Failed
from tests.engine.hand_made import adapter as named
from tests.engine.scheduler_simulation import Simulation
from tests.scripted_loader import ScriptedLoader


def late(simulation: Simulation) -> list[str]:
    return [failed.request_id for failed in simulation.seen(Failed) if failed.code == "deadline_exceeded"]


def test_one_that_waits_past_its_time_ends_and_the_others_go_on() -> None:
    simulation = Simulation(rows=1, step_seconds=0.010)
    first = simulation.arrive(tokens=20)
    waiting, patient = simulation.arrive(deadline=0.050), simulation.arrive()
    simulation.run()
    assert late(simulation) == [waiting.id]
    assert (first.generated, waiting.generated, patient.generated) == (20, 0, 4)


def test_one_that_runs_past_its_time_gives_its_row_up_at_the_next_step() -> None:
    simulation = Simulation(step_seconds=0.010)
    sequence = simulation.arrive(tokens=50, deadline=0.045)
    simulation.run()
    assert late(simulation) == [sequence.id]
    assert sequence.generated == 5
    (failed,) = simulation.seen(Failed)
    assert failed.message.startswith("timeout: 5 tokens had been generated")


def test_one_whose_adapter_does_not_come_in_its_time_ends() -> None:
    simulation = Simulation(loader=ScriptedLoader(), timeout=30)
    sequence = simulation.arrive(named("a"), deadline=0.1)
    began = simulation.now
    simulation.run()
    assert late(simulation) == [sequence.id]
    assert simulation.now - began < 0.12


def test_one_that_even_the_fastest_step_cannot_begin_in_time_is_not_begun() -> None:
    simulation = Simulation(rows=1, step_seconds=0.010)
    simulation.arrive(tokens=4)
    simulation.run()
    steps = len(simulation.steps)
    sequence = simulation.arrive(deadline=0.009)
    simulation.run()
    assert late(simulation) == [sequence.id]
    assert len(simulation.steps) == steps


def test_steps_of_many_tokens_say_nothing_of_what_a_small_one_takes() -> None:
    simulation = Simulation(step_seconds=0.5, batch_tokens=64)
    simulation.arrive(prompt=64, tokens=50)
    simulation.step()
    simulation.step_seconds = 0.005
    small = simulation.arrive(prompt=4, tokens=1, deadline=0.3)
    simulation.run()
    assert late(simulation) == []
    assert small.generated == 1


def test_a_first_slow_step_of_one_token_alone_drops_nothing() -> None:
    simulation = Simulation(step_seconds=0.5)
    simulation.arrive(tokens=2)
    simulation.run()
    simulation.step_seconds = 0.005
    small = simulation.arrive(tokens=1, deadline=0.3)
    simulation.run()
    assert small.generated == 1


@given(
    requests=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6), st.floats(0.0, 0.2)), min_size=1, max_size=12),
    rows=st.integers(1, 4),
)
def test_every_request_is_answered_in_its_time_or_told_that_it_is_late(
    requests: list[tuple[int, int, float]], rows: int
) -> None:
    simulation = Simulation(rows=rows, batch_tokens=16, step_seconds=0.010)
    sequences = [
        (simulation.arrive(prompt=prompt, tokens=tokens, deadline=deadline), tokens)
        for prompt, tokens, deadline in requests
    ]
    began = simulation.now
    simulation.run()
    for sequence, tokens in sequences:
        assert (sequence.id in late(simulation)) != (sequence.generated == tokens)
    assert simulation.now - began <= 0.2 + 0.015


@given(prompt=st.integers(1, 60), tokens=st.integers(1, 5), spare=st.floats(0.0001, 0.01))
def test_nothing_that_can_be_answered_in_time_is_dropped(prompt: int, tokens: int, spare: float) -> None:
    simulation = Simulation(batch_tokens=16, step_seconds=0.010)
    simulation.arrive(tokens=4)
    simulation.run()
    steps = -(-prompt // 16) + tokens - 1
    sequence = simulation.arrive(prompt=prompt, tokens=tokens, deadline=0.010 * steps + spare)
    simulation.run()
    assert sequence.generated == tokens
