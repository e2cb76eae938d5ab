"""The split follows from the content and the seed, and from nothing else."""

import pytest

from server.errors import InvalidTrainingData
from server.training.data.splitting import split
from server.training.example import CompletionExample


def numbered(*numbers: int) -> list[CompletionExample]:
    return [CompletionExample(prompt=f"What is number {number}?", completion=f" {number}") for number in numbers]


def test_about_the_share_is_held_out_and_nothing_is_lost() -> None:
    examples = numbered(*range(1000))
    training, held_out = split(examples, share=0.1, seed=0)
    assert 70 < len(held_out) < 130
    assert sorted(map(examples.index, [*training, *held_out])) == list(range(1000))  # type: ignore[arg-type]


def test_more_examples_leave_the_held_out_ones_where_they_were() -> None:
    small = split(numbered(*range(500)), share=0.1, seed=0)
    large = split(numbered(*reversed(range(900))), share=0.1, seed=0)
    assert set(map(str, small.held_out)) < set(map(str, large.held_out))


def test_another_seed_holds_others_out() -> None:
    examples = numbered(*range(300))
    assert split(examples, share=0.1, seed=0).held_out == split(examples, share=0.1, seed=0).held_out
    assert split(examples, share=0.1, seed=0).held_out != split(examples, share=0.1, seed=1).held_out


def test_equal_examples_are_on_one_side() -> None:
    training, held_out = split(numbered(*range(50), *range(50)), share=0.3, seed=0)
    assert not set(map(str, training)) & set(map(str, held_out))


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_each_side_gets_at_least_one(share: float) -> None:
    training, held_out = split(numbered(1, 2, 3), share=share, seed=0)
    assert training
    assert held_out


def test_one_example_or_no_share_holds_nothing_out() -> None:
    assert split(numbered(1, 1), share=0.5, seed=0).held_out == []
    assert split(numbered(1, 2), share=0.0, seed=0).held_out == []


def test_no_more_than_the_most_are_held_out() -> None:
    assert len(split(numbered(*range(100)), share=0.5, seed=0, most=7).held_out) == 7


def test_a_share_of_everything_is_refused() -> None:
    with pytest.raises(InvalidTrainingData, match="validation_share: must"):
        split(numbered(1, 2), share=1.0, seed=0)
