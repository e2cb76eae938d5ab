"""What counts as right, and when a demo has passed."""

import json

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from server.demo.dates import DATE_TASKS, held_out_dates
from server.demo.exposition import Exposition
from server.demo.interview import Answer, Inquiry
from server.demo.report import BatchFigures, scores
from tests.demo.example_report import example_report

FRENCH, GERMAN = DATE_TASKS[:2]


def test_the_base_is_measured_against_each_language() -> None:
    one, other = held_out_dates(2)
    answers = [
        Answer(Inquiry("base", one), GERMAN.answer(one), None),
        Answer(Inquiry("base", other), "I do not know", None),
        Answer(Inquiry(FRENCH.adapter, one), FRENCH.answer(one), "sha256:…"),
        Answer(Inquiry(FRENCH.adapter, other), f"{FRENCH.answer(other)}\n", "sha256:…"),
        Answer(Inquiry(GERMAN.adapter, one), FRENCH.answer(one), "sha256:…"),
        Answer(Inquiry(GERMAN.adapter, other), GERMAN.answer(other), "sha256:…"),
    ]
    french, german = scores([FRENCH, GERMAN], answers)
    assert (french.right, french.base_right, french.asked) == (2, 0, 2)
    assert (german.right, german.base_right, german.asked) == (1, 1, 2)


def test_a_demo_passes_when_every_adapter_beats_the_base_and_nothing_failed() -> None:
    assert example_report().passed
    assert not example_report(right=3, base_right=3).passed
    assert not example_report(failures=("APIError: no",)).passed


def test_the_report_is_json() -> None:
    data = json.loads(json.dumps(example_report().as_json()))
    assert data["passed"] is True
    assert [row["model"] for row in data["side_by_side"]] == ["base", *(task.adapter for task in DATE_TASKS)]
    assert data["held_out"][0] == {
        "adapter": "french-dates",
        "language": "French",
        "right": 23,
        "base_right": 0,
        "asked": 24,
    }
    assert data["metrics"]["tokens_per_second"] == 105.4


def test_batch_figures_are_of_the_questions_and_cache_figures_of_the_whole_run() -> None:
    registry = CollectorRegistry()
    adapters = Histogram("switchyard_batch_adapters", "…", buckets=(1, 2, 4, 8), registry=registry)
    loads = Counter("switchyard_adapter_loads", "…", ["outcome"], registry=registry)
    load_seconds = Histogram("switchyard_adapter_load_seconds", "…", registry=registry)
    tokens = Counter("switchyard_generation_tokens", "…", ["adapter"], registry=registry)

    def now() -> Exposition:
        return Exposition.parse(generate_latest(registry).decode())

    adapters.observe(1)
    loads.labels("loaded").inc(4)
    load_seconds.observe(0.01)
    tokens.labels("french-dates").inc(7)
    before = now()
    adapters.observe(4)
    adapters.observe(3)
    tokens.labels("french-dates").inc(30)
    tokens.labels("base").inc(10)
    figures = BatchFigures.read(before, now(), seconds=2.0)
    assert (figures.adapters_mean, figures.adapters_max) == (3.5, 4)
    assert (figures.tokens, figures.tokens_per_second) == (40, 20.0)
    assert (figures.loads, figures.load_ms) == (4, 10.0)
