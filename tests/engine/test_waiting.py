"""The waiting queues: one per adapter version, ordered by arrival."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.sequence import Sequence
from server.engine.waiting import WaitingQueues
from tests.engine.hand_made import sequence


@given(arrivals=st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(0, 99)), unique_by=lambda it: it[1]))
@settings(deadline=None)
def test_queues_and_their_sequences_come_in_the_order_of_arrival_whenever_they_were_added(
    arrivals: list[tuple[str | None, int]],
) -> None:
    waiting = WaitingQueues()
    for name, arrived in arrivals:
        waiting.add(sequence(name=name, arrived=arrived))
    assert len(waiting) == len(arrivals) == len(list(waiting))
    queues = waiting.by_age()
    assert len(queues) == len({name for name, _ in arrivals})
    assert [queue.opened for queue in queues] == sorted(queue.opened for queue in queues)
    for queue in queues:
        assert {one.digest for one in queue.sequences} == {queue.digest}
        ages = [one.arrived for one in queue.sequences]
        assert ages == sorted(ages)
        assert queue.opened == ages[0]


@given(
    changes=st.lists(
        st.tuples(st.booleans(), st.sampled_from([None, "a", "b"]), st.integers(0, 99), st.integers(-1, 1)), max_size=40
    )
)
@settings(deadline=None)
def test_the_order_is_kept_from_one_call_to_the_next_and_is_always_that_of_who_waits(
    changes: list[tuple[bool, str | None, int, int]],
) -> None:
    waiting = WaitingQueues()
    there: list[Sequence] = []
    for number, (add, name, arrived, priority) in enumerate(changes):
        if add or not there:
            one = sequence(name=name, arrived=arrived + number / 100)
            one.request = msgspec.structs.replace(one.request, priority=priority)
            there.append(one)
            waiting.add(one)
        else:
            waiting.remove(there.pop(arrived % len(there)))
        queues = waiting.by_age()
        assert waiting.by_age() is queues
        assert waiting.in_rounds() is waiting.in_rounds()
        assert set(waiting.in_rounds()) == set(queues)
        oldest = [min(one.arrived for one in queue.sequences) for queue in queues]
        assert [queue.opened for queue in queues] == oldest == sorted(oldest)


def test_a_preempted_sequence_gets_its_place_back() -> None:
    waiting = WaitingQueues()
    early, late = sequence(name="a", arrived=1), sequence(name="a", arrived=2)
    waiting.add(late)
    waiting.add(early)
    assert waiting.by_age()[0].sequences == [early, late]


def test_a_fallen_back_sequence_joins_the_base_at_the_place_of_its_arrival() -> None:
    waiting = WaitingQueues()
    base, fallen = sequence(arrived=2), sequence(name="a", arrived=1)
    waiting.add(base)
    waiting.add(fallen)
    waiting.remove(fallen)
    fallen.adapter = None
    waiting.add(fallen)
    (queue,) = waiting.by_age()
    assert queue.digest is None
    assert queue.sequences == [fallen, base]


def test_a_queue_ends_with_its_last_sequence_and_keeps_its_age_otherwise() -> None:
    waiting = WaitingQueues()
    first, second = sequence(name="a", arrived=1), sequence(name="a", arrived=3)
    other = sequence(name="b", arrived=2)
    for one in (first, second, other):
        waiting.add(one)
    waiting.remove(first)
    assert [queue.digest for queue in waiting.by_age()] == ["sha256:b", "sha256:a"]
    waiting.remove(second)
    assert [queue.digest for queue in waiting.by_age()] == ["sha256:b"]
    assert len(waiting) == 1
