"""Loads that are compared ask the same adapters at the same times, and never the same prompt."""

from pathlib import Path

import pytest

from loadtest.options import LoadOptions, PopularityName
from loadtest.plan import Load, plan
from loadtest.trace import Arrival, write_trace

NAMES = tuple(f"adapter-{index}" for index in range(8))
OPTIONS = LoadOptions(requests=40, warm_up=4, prompt_tokens="uniform:16,40")


def load(point: int = 0, repeat: int = 0, options: LoadOptions = OPTIONS) -> Load:
    return plan(options, NAMES, clients=None, rate=4.0, point=point, repeat=repeat)


def prompts(of: Load) -> set[str]:
    return {item.prompt for part in of.items() for item in part}


@pytest.mark.parametrize("popularity", PopularityName)
def test_the_points_of_one_repeat_have_the_same_arrivals_and_other_repeats_have_others(
    popularity: PopularityName,
) -> None:
    options = LoadOptions(requests=40, warm_up=4, popularity=popularity)
    assert load(0, 1, options).arrivals == load(5, 1, options).arrivals
    assert load(0, 1, options).arrivals != load(0, 2, options).arrivals


def test_no_two_loads_share_a_prompt_and_equal_loads_have_equal_ones() -> None:
    texts = [prompts(load(point, repeat)) for point in range(3) for repeat in range(3)]
    assert len(set().union(*texts)) == sum(map(len, texts)) == 9 * 44
    assert prompts(load(1, 2)) == texts[1 * 3 + 2]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    write_trace(path, [Arrival(float(at), NAMES[at % 8], 9, 3) for at in range(300)])
    return path


def test_a_trace_is_replayed_and_measured_as_a_whole(trace: Path) -> None:
    whole = load(options=LoadOptions(trace=trace))
    assert (len(whole.arrivals), whole.warm_up) == (300, 0)


def test_a_part_of_a_trace_is_replayed_where_that_is_asked(trace: Path) -> None:
    whole = load(options=LoadOptions(trace=trace)).arrivals
    part = load(options=LoadOptions(trace=trace, requests=5, warm_up=2))
    assert (part.arrivals, part.warm_up) == (whole[:7], 2)
    assert load(options=LoadOptions(trace=trace, warm_up=2)).arrivals == whole


def test_generated_traffic_has_an_end_of_its_own() -> None:
    generated = load(options=LoadOptions())
    assert (len(generated.arrivals), generated.warm_up) == (232, 32)
