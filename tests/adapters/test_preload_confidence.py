"""Preloads that serve nobody raise what the next one must be worth; useful ones lower it again."""

from hypothesis import given
from hypothesis import strategies as st

from server.adapters.preload_choice import MARGIN
from server.adapters.preload_confidence import LEAST_MARGIN, PreloadConfidence


def after(*outcomes: bool) -> PreloadConfidence:
    confidence = PreloadConfidence()
    for useful in outcomes:
        confidence.ended(useful=useful)
    return confidence


def test_it_begins_with_the_margin_of_the_rule() -> None:
    assert after().margin == MARGIN


def test_waste_asks_for_more_and_use_for_less() -> None:
    assert after(*[False] * 40).margin > MARGIN + 2
    assert after(*[True] * 100).margin == LEAST_MARGIN
    assert after(*[False] * 40, *[True] * 40).margin < MARGIN


@given(st.lists(st.booleans()))
def test_the_margin_is_bounded_whatever_happens(outcomes: list[bool]) -> None:
    assert LEAST_MARGIN <= after(*outcomes).margin <= 8
