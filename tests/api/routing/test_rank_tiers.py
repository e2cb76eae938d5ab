"""The first tier for which there is room answers, and a demand on the border makes none go back and forth."""

from hypothesis import given
from hypothesis import strategies as st

from adapters_store.task_rule import Pressure
from server.api.routing.rank_tiers import Demand, TierCandidate, TierChoice, choose_tier

HIGH = TierCandidate("support", "sha256:high", 400)
LOW = TierCandidate("support", "sha256:low", 100)
TIERS = (HIGH, LOW)
PRESSURE = Pressure(down=0.9, up=0.7, hold_seconds=10)


def others(size: int, *waiting: str) -> Demand:
    """A budget of 1000 bytes of which other adapters use `size`."""
    return Demand(1000, {"sha256:other": size}, frozenset(waiting))


def test_the_first_tier_is_taken_while_there_is_room() -> None:
    assert choose_tier(TIERS, others(0), PRESSURE, None, 0).tier == 0
    assert choose_tier(TIERS, others(500), PRESSURE, None, 0).tier == 0
    assert choose_tier(TIERS, others(501), PRESSURE, None, 0).tier == 1


def test_what_the_tiers_take_themselves_does_not_count() -> None:
    own = Demand(1000, {"sha256:other": 400, HIGH.digest or "": 400, LOW.digest or "": 100})
    assert choose_tier(TIERS, own, PRESSURE, None, 0).tier == 0


def test_the_last_tier_always_answers() -> None:
    assert choose_tier(TIERS, others(5000), PRESSURE, None, 0).tier == 1
    assert choose_tier((HIGH,), others(5000), PRESSURE, None, 0).tier == 0


def test_a_better_tier_comes_back_after_a_while_and_with_room_to_spare() -> None:
    low = choose_tier(TIERS, others(600), PRESSURE, None, 0)
    assert low == TierChoice(1, 0, (1.0, 0.7))
    assert choose_tier(TIERS, others(0), PRESSURE, low, 9.9).tier == 1
    assert choose_tier(TIERS, others(0), PRESSURE, low, 10).tier == 0
    assert choose_tier(TIERS, others(301), PRESSURE, low, 10).tier == 1


def test_a_step_down_waits_for_nothing() -> None:
    high = TierChoice(0, 0, ())
    assert choose_tier(TIERS, others(600), PRESSURE, high, 0.1) == TierChoice(1, 0.1, (1.0, 0.7))


def test_no_better_tier_is_taken_while_others_wait_for_space() -> None:
    low = TierChoice(1, 0, ())
    assert choose_tier(TIERS, others(0, "tone"), PRESSURE, low, 100).tier == 1
    assert choose_tier(TIERS, others(0, "support"), PRESSURE, low, 100).tier == 0


def test_the_base_as_the_last_tier_needs_no_room() -> None:
    base = TierCandidate("base", None, 0)
    assert choose_tier((HIGH, base), others(800), PRESSURE, None, 0) == TierChoice(1, 0, (1.2, 0.8))


def test_fewer_tiers_than_before_leave_the_last() -> None:
    assert choose_tier(TIERS, others(600), PRESSURE, TierChoice(5, 0, ()), 1).tier == 1


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2000)), max_size=40),
)
def test_steps_up_are_at_least_the_hold_time_apart(sizes: list[int], demands: list[tuple[float, int]]) -> None:
    tiers = [TierCandidate(f"t{number}", f"sha256:{number}", size) for number, size in enumerate(sizes)]
    before: TierChoice | None = None
    now = 0.0
    for seconds, size in demands:
        now += seconds
        choice = choose_tier(tiers, others(size), PRESSURE, before, now)
        assert 0 <= choice.tier < len(tiers)
        assert choice.tier == len(tiers) - 1 or choice.filled[choice.tier] <= PRESSURE.down
        if before is not None and choice.tier < before.tier:
            assert now - before.since >= PRESSURE.hold_seconds
        before = choice


@given(st.lists(st.integers(301, 499), min_size=1, max_size=40), st.integers(0, 1))
def test_a_demand_between_the_borders_changes_nothing(demands: list[int], tier: int) -> None:
    choice = TierChoice(tier, 0, ())
    for second, size in enumerate(demands):
        choice = choose_tier(TIERS, others(size), PRESSURE, choice, 100.0 * second)
        assert choice.tier == tier
