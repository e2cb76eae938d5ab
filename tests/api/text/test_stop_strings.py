"""Stop strings: nothing of one is ever shown, wherever the chunks are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.api.text.stop_strings import StopScanner

# A small alphabet makes overlaps and near misses common.
texts = st.text(alphabet="ab\n", max_size=40)
stop_lists = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), min_size=1, max_size=4)


def run(stops: list[str], chunks: list[str]) -> tuple[str, bool]:
    scanner = StopScanner(stops)
    shown = "".join(scanner.push(chunk) for chunk in chunks)
    return shown + scanner.flush(), scanner.found is not None


def expected(stops: list[str], text: str) -> tuple[str, bool]:
    """The definition: the first character that completes a stop string ends the text before its longest one."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


def cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(borders)]


@given(stop_lists, texts, st.lists(st.integers(0, 100), max_size=10))
def test_any_cutting_gives_the_text_before_the_first_stop_string(
    stops: list[str], text: str, places: list[int]
) -> None:
    assert run(stops, cut(text, places)) == expected(stops, text)


@given(stop_lists, texts)
def test_what_is_shown_early_is_never_taken_back_and_holds_no_stop_string(stops: list[str], text: str) -> None:
    scanner = StopScanner(stops)
    final, _ = expected(stops, text)
    shown = ""
    for character in text:
        shown += scanner.push(character)
        assert final.startswith(shown)
        assert not any(stop in shown for stop in stops)


@given(stop_lists, texts)
def test_text_is_held_back_only_while_it_may_become_a_stop_string(stops: list[str], text: str) -> None:
    scanner = StopScanner(stops)
    shown = ""
    for position, character in enumerate(text, start=1):
        shown += scanner.push(character)
        if scanner.found:
            return
        held = text[len(shown) : position]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_a_stop_string_over_three_chunks() -> None:
    scanner = StopScanner(["</answer>"])
    assert [scanner.push(part) for part in ("42</a", "nsw", "er> and more")] == ["42", "", ""]
    assert scanner.found


def test_a_near_miss_is_shown_after_all() -> None:
    scanner = StopScanner(["</answer>"])
    assert [scanner.push(part) for part in ("42</an", "chor>")] == ["42", "</anchor>"]
    assert not scanner.found


def test_the_end_shows_what_was_held() -> None:
    assert run(["END"], ["the EN"]) == ("the EN", False)


def test_of_two_stop_strings_that_end_together_the_longer_one_is_cut() -> None:
    assert run(["b", "ab"], ["xab"]) == ("x", True)


def test_without_stop_strings_all_passes() -> None:
    assert run([], ["any", "thing"]) == ("anything", False)
