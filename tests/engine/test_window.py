"""How long a group is held for company."""

import pytest

from server.engine.waiting import AdapterQueue
from server.engine.window import LONGEST, SHORTEST, Window, WindowMode
from tests.engine.hand_made import sequence

STEP = 0.030


def group(*arrived: float) -> AdapterQueue:
    queue = AdapterQueue(None)
    queue.sequences = [sequence(arrived=at) for at in arrived]
    return queue


def window(*arrivals: float, mode: WindowMode = "adaptive") -> Window:
    made = Window(mode, 0.020)
    for at in arrivals:
        made.arrived(None, at)
    return made


def test_a_fixed_window_has_its_length_whatever_comes() -> None:
    assert window(1.0, 1.001, mode="fixed").length(group(1.0), 1.0, STEP) == 0.020
    assert window(mode="fixed").is_open(group(1.0), 1.0, 0.010)
    assert not window(mode="fixed").is_open(group(1.0), 1.015, 0.010)


def test_an_adaptive_one_is_not_opened_for_an_adapter_of_which_nothing_is_known() -> None:
    assert window(1.0).length(group(1.0), 1.0, STEP) == 0.0


@pytest.mark.parametrize(("gap", "length"), [(0.002, SHORTEST), (0.020, 0.020), (0.200, 0.0)])
def test_it_lasts_until_the_next_arrival_is_expected_within_its_bounds(gap: float, length: float) -> None:
    arrivals = [1 + number * gap for number in range(10)]
    now = arrivals[-1]
    assert window(*arrivals).length(group(now), now, STEP) == pytest.approx(length)


def test_it_is_not_worth_it_where_those_that_wait_lose_more_than_a_step() -> None:
    arrivals = [1 + number * 0.020 for number in range(10)]
    now = arrivals[-1]
    assert window(*arrivals).length(group(now), now, 0.019) == 0.0
    assert window(*arrivals).length(group(now, now), now, STEP) == 0.0


def test_each_arrival_prolongs_it_but_never_beyond_the_longest() -> None:
    arrivals = [1 + number * 0.015 for number in range(10)]
    opened = arrivals[-4]
    lengths = [
        window(*arrivals[: 7 + joined]).length(group(opened, *[opened] * joined), arrivals[6 + joined], 1.0)
        for joined in range(4)
    ]
    assert lengths[:3] == pytest.approx([0.015, 0.030, 0.045])
    assert lengths[3] == 0.0
    assert max(lengths) <= LONGEST
