"""Figures follow from the outcomes, and bad answers are never a result."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtest.client import Outcome, Run
from loadtest.report import Distribution, Level, Report, percentile, summarise
from loadtest.workload import WorkItem

DIGESTS = {"a": "sha256:a", "b": "sha256:b"}
FINITE = st.floats(0, 1e6, allow_nan=False)


def good(index: int, model: str = "a") -> Outcome:
    return Outcome(
        item=WorkItem(index, model, "prompt", max_tokens=5),
        seconds=1.0,
        time_to_first_token=0.2,
        gaps=(0.1, 0.3),
        completion_tokens=5,
        digest=DIGESTS[model],
    )


def level(*outcomes: Outcome, wall_seconds: float = 2.0) -> Level:
    return summarise(Run(outcomes, wall_seconds), clients=2, expected_digests=DIGESTS)


def printed(report: Report) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(report.table())
    return capture.get()


def test_throughput_counts_tokens_over_wall_time() -> None:
    measured = level(good(0), good(1, "b"))
    assert measured.tokens == 10
    assert measured.tokens_per_second == 5.0
    assert measured.requests_per_second == 1.0
    assert measured.adapters_used == 2
    assert measured.valid


def test_time_per_token_leaves_the_first_token_out() -> None:
    measured = level(good(0))
    assert measured.time_per_token.p50 == pytest.approx(0.4 / 4)
    assert measured.time_to_first_token.p50 == pytest.approx(0.2)
    assert measured.gap_between_chunks.mean == pytest.approx(0.2)
    assert measured.gap_between_chunks.maximum == 0.3


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (replace(good(1), error="HTTP 503: adapter_unavailable"), "HTTP 503: adapter_unavailable"),
        (replace(good(1), fallback="timeout"), "fallback: timeout"),
        (replace(good(1), digest="sha256:b"), "wrong digest"),
        (replace(good(1), digest=None), "wrong digest"),
        (replace(good(1), completion_tokens=4), "wrong length"),
    ],
    ids=["error", "fallback", "other digest", "no digest", "short"],
)
def test_one_bad_answer_makes_the_level_and_the_report_no_result(bad: Outcome, kind: str) -> None:
    measured = level(good(0), bad)
    report = Report({}, (level(good(0)), measured))
    assert measured.failures == {kind: 1}
    assert measured.tokens == 5
    assert not measured.valid
    assert not report.valid
    text = printed(report)
    assert "NOT A RESULT" in text
    assert f"1 x {kind}" in text
    assert f"{measured.tokens_per_second:.1f}" in text.splitlines()[3 + 1]
    assert "2.5" not in text.splitlines()[3 + 2]


def test_a_report_without_failures_shows_its_figures() -> None:
    text = printed(Report({}, (level(good(0), good(1)),)))
    assert "5.0" in text
    assert "0.20 s" in text
    assert "100.0" in text
    assert "NOT A RESULT" not in text


def test_the_written_report_holds_subject_levels_and_verdict(tmp_path: Path) -> None:
    report = Report({"base": "tiny"}, (level(good(0)), level(replace(good(0), error="gone"))))
    path = tmp_path / "new" / "report.json"
    report.write(path)
    document = json.loads(path.read_text())
    assert document["valid"] is False
    assert document["subject"] == {"base": "tiny"}
    assert [entry["valid"] for entry in document["levels"]] == [True, False]
    assert document["levels"][0]["tokens_per_second"] == 2.5
    assert document["levels"][1]["failures"] == {"gone": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_level_without_good_answers_has_no_times() -> None:
    measured = level(replace(good(0), error="gone"))
    assert measured.time_to_first_token == Distribution(0, None, None, None, None, None)


def test_percentiles_interpolate() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0, 3.0, 4.0], 100) == 4.0
    assert percentile([7.0], 95) == 7.0


@given(st.lists(FINITE, min_size=1), FINITE)
def test_a_distribution_is_ordered_and_does_not_depend_on_the_order_of_its_sample(
    sample: list[float], first: float
) -> None:
    one = Distribution.of([first, *sample])
    assert one == Distribution.of([*reversed(sample), first])
    assert one.p50 is not None
    assert one.p95 is not None
    assert one.p99 is not None
    assert one.maximum == max(first, *sample)
    assert min(first, *sample) <= one.p50 <= one.p95 <= one.p99 <= one.maximum
