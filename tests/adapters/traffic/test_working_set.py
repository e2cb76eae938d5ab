"""The working set: versions asked for in the last ten minutes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.adapters.traffic import working_set
from server.adapters.traffic.working_set import RECENT_SECONDS, WorkingSet


def test_versions_count_once_and_for_ten_minutes() -> None:
    working = WorkingSet()
    working.sized("a", 10)
    working.sized("b", 5)
    for digest, now in (("a", 0.0), ("b", 1.0), ("a", 2.0)):
        working.asked(digest, now)
    assert working.now(2.0) == (2, 15)
    assert working.now(1.5 + RECENT_SECONDS) == (1, 10)
    assert working.now(3.0 + RECENT_SECONDS) == (0, 0)


def test_bytes_are_counted_when_they_become_known() -> None:
    working = WorkingSet()
    working.asked("a", 0.0)
    assert working.now(0.0) == (1, 0)
    assert working.size_of("a") is None
    working.sized("a", 7)
    assert working.now(0.0) == (1, 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.booleans(), st.floats(0, RECENT_SECONDS / 2))
    )
)
def test_the_bytes_are_the_sum_of_what_is_known_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, events: list[tuple[str, int, bool, float]]
) -> None:
    monkeypatch.setattr(working_set, "_REMEMBERED", 4)
    working, asked, now = WorkingSet(), dict[str, float](), 0.0
    for digest, size, is_size, gap in events:
        now += gap
        if is_size:
            working.sized(digest, size)
        else:
            working.asked(digest, now)
            asked[digest] = now
        recent = [one for one, at in asked.items() if at >= now - RECENT_SECONDS]
        assert working.now(now) == (len(recent), sum(working.size_of(one) or 0 for one in recent))
