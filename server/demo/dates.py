"""The task of the demo adapters: one question, answered in the language that the adapter was trained for.

    Write the date 2005-08-10 in words.   ->   10 août 2005 | 10. August 2005 | 10 de agosto de 2005 | …

Answers are the long dates of the Unicode CLDR as the package `babel` ships them, so every answer can be checked
letter by letter. Questions are split by date: no held-out date is ever a training date, in any language.
"""

import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from babel.dates import format_date

__all__ = ["DATE_TASKS", "DateTask", "held_out_dates", "is_right", "question", "training_dates"]

_FIRST, _LAST = date(1900, 1, 1), date(2099, 12, 31)
# One date in `_HELD_OUT_SHARE` is held out; which ones follows from the seed alone.
_HELD_OUT_SHARE = 5
_SEED = 2024


@dataclass(frozen=True)
class DateTask:
    """One language. `adapter` is the adapter's name, `locale` the CLDR locale of its answers."""

    adapter: str
    language: str
    locale: str

    def answer(self, day: date) -> str:
        """The one right answer, such as `10 août 2005`."""
        return format_date(day, format="long", locale=self.locale)


DATE_TASKS = (
    DateTask(adapter="french-dates", language="French", locale="fr"),
    DateTask(adapter="german-dates", language="German", locale="de"),
    DateTask(adapter="spanish-dates", language="Spanish", locale="es"),
    DateTask(adapter="italian-dates", language="Italian", locale="it"),
)


def question(day: date) -> str:
    """The prompt, the same for every adapter and for the base."""
    return f"Write the date {day.isoformat()} in words."


def is_right(answer: str, expected: str) -> bool:
    """Whether a model's answer is exactly the expected one; space around it does not count."""
    return answer.strip() == expected


def training_dates(count: int, *, seed: int = 0) -> list[date]:
    """`count` different dates to train on, in random order; none of them is held out."""
    return _sample(count, held_out=False, seed=seed)


def held_out_dates(count: int, *, seed: int = 0) -> list[date]:
    """`count` different dates that no training ever sees, in random order."""
    return _sample(count, held_out=True, seed=seed)


def _sample(count: int, *, held_out: bool, seed: int) -> list[date]:
    days = _shuffled_days()
    boundary = len(days) // _HELD_OUT_SHARE
    pool = days[:boundary] if held_out else days[boundary:]
    return random.Random(seed).sample(pool, count)


@cache
def _shuffled_days() -> tuple[date, ...]:
    days = [_FIRST + timedelta(days=offset) for offset in range((_LAST - _FIRST).days + 1)]
    random.Random(_SEED).shuffle(days)
    return tuple(days)
