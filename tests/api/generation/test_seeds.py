"""Seeds of several choices."""

from hypothesis import given
from hypothesis import strategies as st

from server.api.generation.seeds import choice_seed

seeds = st.integers(-(2**63), 2**63 - 1)


@given(seeds, st.integers(0, 200))
def test_a_seed_stays_a_64_bit_integer_and_is_the_same_every_time(seed: int, number: int) -> None:
    assert -(2**63) <= choice_seed(seed, number) < 2**63
    assert choice_seed(seed, number) == choice_seed(seed, number)


@given(seeds)
def test_the_first_choice_has_the_clients_own_and_the_others_have_none_alike(seed: int) -> None:
    assert choice_seed(seed, 0) == seed
    assert len({choice_seed(seed, number) for number in range(128)}) == 128


def test_choices_of_neighbouring_seeds_have_nothing_in_common() -> None:
    assert len({choice_seed(seed, number) for seed in range(50) for number in range(50)}) == 2500
