"""The offline optimum as a policy."""

import math

import pytest

from loadtest.simulation.belady import Belady, first_asks, next_asks


def policy(keys: str) -> Belady:
    return Belady(next_asks(keys), first_asks(keys))


def test_each_request_knows_when_its_key_is_asked_for_again() -> None:
    assert next_asks("abca") == [3, math.inf, math.inf, math.inf]
    assert first_asks("abca") == {"a": 0, "b": 1, "c": 2}


def test_it_gives_up_what_is_asked_for_last_or_never_again() -> None:
    belady = policy("abcab")
    for now, key in enumerate("abc"):
        belady.asked(key, now)
        belady.admitted(key, 1, 1.0, now)
    assert list(belady.coldest(3)) == ["c", "b", "a"]


def test_it_refuses_another_trace_than_its_own() -> None:
    belady = policy("ab")
    with pytest.raises(ValueError, match="request 0 of the trace is not for 'b'"):
        belady.asked("b", 0)
