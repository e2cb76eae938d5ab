"""Where runs of neighbouring pages go."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.page_runs import place_runs

PAGES = [1, 2, 3, 6, 7, 9]


def test_runs_take_the_highest_neighbours_there_are() -> None:
    assert place_runs([1, 1], PAGES) == (range(9, 10), range(7, 8))
    assert place_runs([2], PAGES) == (range(6, 8),)
    assert place_runs([2, 1], PAGES) == (range(6, 8), range(9, 10))
    assert place_runs([], PAGES) == ()


def test_the_longest_choose_first_and_keep_the_order_they_were_asked_for_in() -> None:
    assert place_runs([1, 2, 3], PAGES) == (range(9, 10), range(6, 8), range(1, 4))


def test_a_run_never_spans_a_gap() -> None:
    assert place_runs([4], PAGES) is None
    assert place_runs([3, 3], PAGES) is None
    assert place_runs([1] * 7, PAGES) is None


@given(pages=st.sets(st.integers(1, 40)), lengths=st.lists(st.integers(1, 4), max_size=8))
def test_runs_are_disjoint_free_and_as_long_as_asked(pages: set[int], lengths: list[int]) -> None:
    runs = place_runs(lengths, sorted(pages))
    if runs is None:
        assert lengths
        assert not set(range(1, 41)) <= pages or sum(lengths) > 40
        return
    assert [len(run) for run in runs] == lengths
    taken = [page for run in runs for page in run]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= pages


@given(lengths=st.lists(st.integers(1, 5), max_size=8), first=st.integers(1, 9))
def test_what_fits_one_gap_by_its_sum_fits_it_whatever_the_lengths(lengths: list[int], first: int) -> None:
    assert place_runs(lengths, range(first, first + sum(lengths))) is not None
