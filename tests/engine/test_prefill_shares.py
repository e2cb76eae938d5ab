"""How prompts share a step."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.prefill_shares import FIRST_SHARE, shares_by_rows, shares_in_order
from server.engine.sequence import Sequence
from tests.engine.hand_made import adapter as named
from tests.engine.hand_made import sequence
from tests.engine.scheduler_simulation import Simulation


def prompt(tokens: int, name: str = "a") -> Sequence:
    return sequence(range(tokens), name)


def test_one_prompt_gets_all_that_there_is() -> None:
    alone = prompt(100)
    assert shares_by_rows([alone], [alone], 40) == {alone: 40}


def test_no_tokens_are_no_shares() -> None:
    alone = prompt(100)
    assert shares_by_rows([alone], [alone], 0) == {}
    assert shares_by_rows([alone], [alone], -3) == {}


def test_prompts_of_one_adapter_go_in_the_order_of_their_rows() -> None:
    first, second, third = (prompt(30) for _ in range(3))
    assert shares_by_rows([first, second, third], [first, second, third], 40) == {first: 30, second: 10}


def test_who_holds_fewer_rows_goes_before_all_but_a_part_of_the_first() -> None:
    hot, more, newcomer = prompt(200, "hot"), prompt(200, "hot"), prompt(20, "new")
    assert shares_by_rows([hot, more, newcomer], [hot, more, newcomer], 40) == {hot: 20, newcomer: 20}
    assert shares_by_rows([hot, more, newcomer], [hot, more, newcomer], 24) == {hot: 6, newcomer: 18}


def test_of_equal_rows_the_least_to_compute_goes_first() -> None:
    first, long, short = prompt(200, "a"), prompt(100, "b"), prompt(20, "c")
    assert shares_by_rows([first, long, short], [first, long, short], 40) == {first: 10, short: 20, long: 10}


def test_without_rows_only_their_order_counts() -> None:
    hot, more, newcomer = prompt(30, "hot"), prompt(30, "hot"), prompt(20, "new")
    assert shares_in_order([hot, more, newcomer], 40) == {hot: 30, more: 10}


@given(
    prompts=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), max_size=8),
    decoding=st.lists(st.sampled_from("abc"), max_size=8),
    tokens=st.integers(-2, 80),
)
def test_a_step_is_used_up_and_the_first_always_advances(
    prompts: list[tuple[str, int]], decoding: list[str], tokens: int
) -> None:
    prefilling = [prompt(length, name) for name, length in prompts]
    shares = shares_by_rows(prefilling, [*prefilling, *(prompt(1, name) for name in decoding)], tokens)
    assert all(0 < count <= row.pending for row, count in shares.items())
    assert sum(shares.values()) == min(max(0, tokens), sum(row.pending for row in prefilling))
    if prefilling and tokens > 0:
        first = prefilling[0]
        assert shares[first] >= min(first.pending, max(1, tokens // FIRST_SHARE))


def test_a_newcomer_does_not_wait_for_a_hot_adapters_long_prompts() -> None:
    simulation = Simulation(rows=4, blocks=400, batch_tokens=32, window=0)
    for name in ("new", "hot"):
        simulation.arrive(named(name), prompt=1, tokens=1)
        simulation.run()
    hot = [simulation.arrive(named("hot"), prompt=160, tokens=2) for _ in range(4)]
    simulation.step()
    simulation.step()
    newcomer = simulation.arrive(named("new"), prompt=20, tokens=2)
    simulation.step()
    simulation.step()
    assert newcomer.generated
    assert not any(sequence.generated for sequence in hot)
    simulation.run()
