"""The hot adapter: what it adds, what it leaves as it is, and what the others feel."""

from typing import Any

import pytest

from loadtest.commands.fairness import table
from loadtest.hot_adapter import HotAdapter, felt_by_others
from loadtest.workloads.lengths import Constant

NAMES = ("hot", "a", "b", "c")


def traffic(factor: float, seed: int = 7) -> HotAdapter:
    return HotAdapter(NAMES, 8.0, factor, Constant(16), Constant(4), seed)


def test_the_others_are_asked_the_same_whatever_the_hot_one_gets() -> None:
    even, hot = (list(traffic(factor).arrivals(200.0)) for factor in (1.0, 10.0))
    assert [one for one in even if one.adapter != "hot"] == [one for one in hot if one.adapter != "hot"]
    assert [one.at for one in hot] == sorted(one.at for one in hot)


def test_the_hot_adapter_gets_so_many_times_its_share() -> None:
    even, hot = (sum(one.adapter == "hot" for one in traffic(factor).arrivals(2000.0)) for factor in (1.0, 10.0))
    assert even == pytest.approx(2.0 * 2000, rel=0.05)
    assert hot == pytest.approx(10 * even, rel=0.05)


@pytest.mark.parametrize(
    ("change", "says"), [({"names": ("one",)}, "at least two"), ({"factor": 0.5}, "at least its share")]
)
def test_what_is_no_hot_adapter_is_refused(change: dict[str, Any], says: str) -> None:
    values = {"names": NAMES, "rate": 1.0, "factor": 2.0, "prompt_tokens": Constant(1), "output_tokens": Constant(1)}
    with pytest.raises(ValueError, match=says):
        HotAdapter(**{**values, **change}, seed=0)


def point(fairness: str, hot: float, repeat: int, others: float) -> dict[str, Any]:
    return {
        "valid": True,
        "varied": {"fairness": fairness, "hot": hot},
        "repeat": repeat,
        "adapters": ["a", "hot"],
        "requests": {"adapter": [0, 1, 0], "ttft": [others, 99.0, others], "problem": [None] * 3},
    }


def test_what_the_others_feel_is_the_median_of_paired_ratios_without_the_hot_adapters_own_requests() -> None:
    points = [
        point("tokens", hot, repeat, others)
        for repeat, pair in enumerate([(1.0, 1.2), (2.0, 2.2), (1.0, 3.0)])
        for hot, others in zip((1.0, 10.0), pair, strict=True)
    ]
    rows = felt_by_others(points, "hot")
    assert rows == [
        {"fairness": "tokens", "valid": True, "p95_without": 1.0, "p95_with": 2.2, "ratio": 1.2, "repeats": 3}
    ]


def test_a_load_that_was_measured_without_its_pair_says_nothing() -> None:
    assert felt_by_others([point("none", 1.0, 0, 1.0)], "hot") == []


def failed(fairness: str, hot: float, *problems: str | None) -> dict[str, Any]:
    made = point(fairness, hot, 0, 1.0)
    # A request that was refused at once would be the fastest of all.
    made["requests"] |= {"ttft": [0.001 if one else 1.0 for one in problems], "problem": list(problems)}
    return made | {"valid": False}


def test_a_request_that_was_refused_has_no_latency_and_its_setting_is_no_result() -> None:
    (row,) = felt_by_others([point("none", 1.0, 0, 1.0), failed("none", 10.0, "HTTP 429", None, None)], "hot")
    assert (row["valid"], row["p95_with"]) == (False, 1.0)


def test_a_setting_without_a_good_request_is_named_nevertheless() -> None:
    (row,) = felt_by_others([point("none", 1.0, 0, 1.0), failed("none", 10.0, *["HTTP 429"] * 3)], "hot")
    assert (row["fairness"], row["valid"], row["ratio"], row["repeats"]) == ("none", False, None, 0)


def test_the_table_has_no_figures_of_a_setting_that_is_no_result() -> None:
    rows = felt_by_others([point("none", 1.0, 0, 1.0), failed("none", 10.0, "HTTP 429", None, None)], "hot")
    assert "no result" in list(table(rows, 10.0).columns[3].cells)
