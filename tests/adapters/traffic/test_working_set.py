"""The working set: versions asked for in the last ten minutes."""

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
