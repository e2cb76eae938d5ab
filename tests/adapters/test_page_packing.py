"""How the parts of an adapter share pages."""

from hypothesis import given
from hypothesis import strategies as st

from server.adapters.page_packing import pack

PAGE = 10


def test_parts_share_a_page_and_never_straddle_two() -> None:
    packing = pack([6, 4, 6, 6], PAGE)
    assert packing.runs == (1, 1, 1)
    assert packing.places == ((0, 0), (0, 6), (1, 0), (2, 0))


def test_a_large_part_has_neighbouring_pages_and_leaves_their_rest_to_those_behind_it() -> None:
    packing = pack([3, 25, 3, 3], PAGE)
    assert packing.runs == (1, 3, 1)
    assert packing.places == ((0, 0), (1, 0), (1, 25), (2, 0))


def test_nothing_takes_no_page() -> None:
    assert pack([], PAGE).pages == 0


@given(sizes=st.lists(st.integers(0, 35), max_size=30))
def test_no_two_parts_overlap_and_each_lies_within_its_run(sizes: list[int]) -> None:
    packing = pack(sizes, PAGE)
    assert packing.pages == sum(packing.runs)
    used: set[tuple[int, int]] = set()
    for size, (run, offset) in zip(sizes, packing.places, strict=True):
        assert 0 <= offset <= offset + size <= packing.runs[run] * PAGE
        assert size > PAGE or size == 0 or offset // PAGE == (offset + size - 1) // PAGE or packing.runs[run] > 1
        own = {(run, offset + byte) for byte in range(size)}
        assert not own & used
        used |= own


@given(sizes=st.lists(st.integers(1, PAGE), min_size=1, max_size=30))
def test_at_most_one_page_in_two_is_half_empty(sizes: list[int]) -> None:
    assert pack(sizes, PAGE).pages <= 1 + 2 * sum(sizes) // PAGE
