"""Virtual token counters: the least served is known, and idle time gives no credit."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.virtual_counters import VirtualCounters


def test_a_party_that_becomes_active_is_lifted_to_the_least_of_those_that_are() -> None:
    counters: VirtualCounters[str] = VirtualCounters()
    counters.enter("a")
    counters.enter("b")
    counters.charge("a", 100)
    counters.charge("b", 70)
    counters.enter("late")
    assert counters.served("late") == 70


def test_time_without_requests_gives_no_credit_although_nobody_else_is_there_when_a_party_comes_back() -> None:
    counters: VirtualCounters[str] = VirtualCounters()
    counters.enter("idle")
    counters.leave("idle")
    counters.enter("busy")
    counters.charge("busy", 500)
    counters.leave("busy")
    counters.enter("idle")
    counters.enter("busy")
    assert counters.served("idle") == counters.served("busy") == 500


def test_what_a_party_took_beyond_its_share_is_not_forgotten_by_a_short_absence() -> None:
    counters: VirtualCounters[str] = VirtualCounters()
    counters.enter("patient")
    counters.enter("greedy")
    counters.charge("greedy", 100)
    counters.leave("greedy")
    counters.enter("greedy")
    assert counters.served("greedy") == 100
    assert counters.served("patient") == 0


def test_parties_that_are_idle_and_ahead_of_nobody_cost_no_memory() -> None:
    counters: VirtualCounters[int] = VirtualCounters()
    for party in range(10_000):
        counters.enter(party)
        counters.charge(party, 10)
        counters.leave(party)
    assert len(counters) < 100


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["enter", "leave", "charge"]), st.integers(1, 50))))
def test_counters_never_fall_and_nobody_enters_below_the_least_active_one(steps: list[tuple[str, str, int]]) -> None:
    counters: VirtualCounters[str] = VirtualCounters()
    inside: dict[str, int] = {}
    for party, step, tokens in steps:
        before = {other: counters.served(other) for other in inside if inside[other]}
        if step == "enter":
            counters.enter(party)
            inside[party] = inside.get(party, 0) + 1
            assert counters.served(party) >= min(before.values(), default=0)
        elif inside.get(party):
            if step == "leave":
                counters.leave(party)
                inside[party] -= 1
            else:
                counters.charge(party, tokens)
        for other, served in before.items():
            assert counters.served(other) >= served or not inside[other]
        assert all(counters.is_active(other) == bool(count) for other, count in inside.items())
