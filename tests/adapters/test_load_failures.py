"""How long a version that failed to load is left alone."""

import pytest

from server.adapters.load_failures import LONGEST_SECONDS, PERMANENT_SECONDS, TRANSIENT_SECONDS, LoadFailures
from server.adapters.loader import LoadFailure

TORN = LoadFailure("checksum_mismatch", "torn")
AWAY = LoadFailure("load_failed", "the disk is away", transient=True)


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.failures = LoadFailures(lambda: self.now)

    def pause_after(self, failure: LoadFailure) -> float:
        """Fail now, and wait until the version may be tried again; the seconds that took."""
        self.failures.remember("a", failure)
        began = self.now
        while self.failures.current("a") is not None:
            assert self.failures.current("a") == failure
            self.now += 0.25
        return self.now - began


@pytest.mark.parametrize(("failure", "first"), [(AWAY, TRANSIENT_SECONDS), (TORN, PERMANENT_SECONDS)])
def test_each_failure_in_a_row_doubles_the_pause_up_to_minutes(failure: LoadFailure, first: float) -> None:
    bench = Bench()
    pauses = [bench.pause_after(failure) for _ in range(12)]
    assert pauses == [min(first * 2**number, LONGEST_SECONDS) for number in range(12)]


def test_what_loaded_or_was_unloaded_has_no_past() -> None:
    bench = Bench()
    for _ in range(4):
        bench.pause_after(TORN)
    bench.failures.remember("a", TORN)
    bench.failures.forget("a")
    assert bench.failures.current("a") is None
    assert bench.pause_after(TORN) == PERMANENT_SECONDS


def test_failures_of_long_ago_are_forgotten_also_by_memory() -> None:
    bench = Bench()
    for number in range(50):
        bench.failures.remember(str(number), TORN)
    bench.now = 10 * LONGEST_SECONDS
    bench.failures.remember("a", TORN)
    assert list(bench.failures._failed) == ["a"]


def test_a_failure_says_nothing_of_other_versions() -> None:
    bench = Bench()
    bench.failures.remember("a", TORN)
    assert bench.failures.current("b") is None
