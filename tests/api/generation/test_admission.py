"""The bound on requests on their way."""

import pytest

from server.api.generation.admission import Admission
from server.errors import QueueFull


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(admission: Admission) -> QueueFull:
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    return caught.value


def test_a_place_that_is_left_can_be_taken_again() -> None:
    admission = Admission(2)
    first, _ = admission.enter(), admission.enter()
    assert refusal(admission).retry_after == 1
    first.leave()
    admission.enter()
    assert admission.inside == 2


def test_leaving_twice_frees_one_place() -> None:
    admission = Admission(2)
    first, _ = admission.enter(), admission.enter()
    first.leave()
    first.leave()
    assert admission.inside == 1


def test_those_refused_are_told_to_come_one_after_the_other() -> None:
    clock = Clock()
    admission = Admission(4, clock)
    place = admission.enter()
    clock.now = 40.0
    place.leave()
    for _ in range(4):
        admission.enter()
    # Requests take 40 s, four run at once: one place becomes free every 10 s.
    assert [refusal(admission).retry_after for _ in range(3)] == [10, 20, 30]
    assert [refusal(admission).retry_after for _ in range(9)][-1] == 60


def test_an_acceptance_begins_the_line_anew() -> None:
    clock = Clock()
    admission = Admission(1, clock)
    place = admission.enter()
    clock.now = 8.0
    assert refusal(admission).retry_after == 1
    place.leave()
    admission.enter()
    assert refusal(admission).retry_after == 8


def test_a_withdrawn_place_is_free_and_tells_nothing_of_durations() -> None:
    clock = Clock()
    admission = Admission(1, clock)
    place = admission.enter()
    clock.now = 8.0
    place.leave()
    for _ in range(100):
        refused = admission.enter()
        refused.withdraw()
        refused.withdraw()
        refused.leave()
    assert admission.inside == 0
    admission.enter()
    assert refusal(admission).retry_after == 8


def test_without_any_place_every_request_is_refused() -> None:
    assert refusal(Admission(0)).status == 429
