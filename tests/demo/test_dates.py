"""The task of the demo adapters."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.demo.dates import DATE_TASKS, held_out_dates, is_right, question, training_dates

ANSWERS = {
    "french-dates": "10 août 2005",
    "german-dates": "10. August 2005",
    "spanish-dates": "10 de agosto de 2005",
    "italian-dates": "10 agosto 2005",
}


def test_one_question_has_an_answer_in_each_language() -> None:
    day = date(2005, 8, 10)
    assert question(day) == "Write the date 2005-08-10 in words."
    assert {task.adapter: task.answer(day) for task in DATE_TASKS} == ANSWERS


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_no_held_out_date_is_ever_trained_on(one: int, other: int) -> None:
    assert set(held_out_dates(500, seed=one)).isdisjoint(training_dates(2000, seed=other))


def test_samples_are_repeatable_and_without_repetition() -> None:
    days = held_out_dates(300)
    assert held_out_dates(300) == days
    assert len(set(days)) == 300
    assert held_out_dates(300, seed=1) != days


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("10 août 2005", True),
        (" 10 août 2005\n", True),
        ("10 aout 2005", False),
        ("le 10 août 2005", False),
        ("", False),
    ],
)
def test_only_the_exact_answer_is_right(answer: str, right: bool) -> None:
    assert is_right(answer, "10 août 2005") is right
