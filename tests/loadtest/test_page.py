"""The page of a result has every part that the result has data for, and says loudly where it is none."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.client import Outcome, Run
from loadtest.page.page import render
from loadtest.page.point import PointView
from loadtest.page.sections import Slo
from loadtest.result import Point, ResultError, compare, read_result, result_document, write_result
from loadtest.sampler import Sample
from loadtest.server_metrics import Scrape, read_scrape, rise
from loadtest.workload import WorkItem

NAMES = ("a", "b<i>", "c")
DIGESTS = {name: f"sha256:{name}" for name in NAMES}
SUBJECT = {"options": {"base": "tiny", "clients": "4"}, "server_flags": ["--eviction", "lru"], "machine": {"cores": 2}}
SLO = Slo(1.0, 0.2)


def outcome(index: int, *, residency: str | None = "device", error: str | None = None) -> Outcome:
    name = NAMES[index % 3]
    ttft = 0.1 if residency == "device" else 0.3
    item = WorkItem(index, name, "hello", 3, at=0.5 * index)
    return Outcome(item, ttft + 0.2, ttft, (0.1, 0.1), 3, DIGESTS[name], None, error, item.at, item.at, 9, residency)


def point(varied: Mapping[str, object] | None = None, repeat: int = 0, **changes: Any) -> Point:
    outcomes = [outcome(index, residency="store" if index < 3 else "device") for index in range(12)]
    samples = [Sample(float(at), Scrape({}, {"adapter_bytes": 100.0}, NAMES[: at + 1]), 10**8) for at in range(4)]
    server = {
        "device_hits": 9.0,
        "device_misses": 3.0,
        "loads": 3.0,
        "load_seconds_sum": 0.6,
        "load_seconds_count": 3.0,
    }
    run = Run(tuple(changes.get("outcomes", outcomes)), 8.0)
    return Point(run, DIGESTS, changes.get("samples", samples), changes.get("server", server), varied, repeat)


def page(*points: Point) -> str:
    return render([("result", result_document("run", SUBJECT, points))], SLO)


def test_one_load_has_every_section() -> None:
    html = page(point())
    for part in (
        "Valid: all 12 requests",
        "What was measured",
        "--eviction lru",
        "Hit rate by tier",
        "75.0%",
        "Cost of a miss",
        "3.00x",
        "Time to first token over time",
        "Time between tokens over time",
        "Residency map",
        "Memory",
        "How to read this",
    ):
        assert part in html, part
    assert "NOT A RESULT" not in html


@pytest.mark.parametrize(
    ("varied", "title"),
    [
        ([{"working_set": "1x"}, {"working_set": "4x"}], "is there a cliff?"),
        ([{"clients": 1}, {"clients": 8}], "Over load"),
        ([{"window_ms": "0"}, {"window_ms": "10"}], "Comparison by window ms"),
        ([{"clients": c, "window_ms": w} for c in (1, 8) for w in ("0", "10")], "window ms 10"),
    ],
)
def test_a_sweep_is_compared(varied: list[dict[str, object]], title: str) -> None:
    html = page(*(point(values, repeat) for repeat in range(2) for values in varied))
    assert title in html
    assert "median of 2 interleaved runs" in html
    assert "Goodput" in html


def test_a_bad_answer_is_a_red_banner() -> None:
    outcomes = [outcome(index, error="HTTP 429: queue_full" if index == 2 else None) for index in range(6)]
    html = page(point(outcomes=outcomes))
    assert "NOT A RESULT" in html
    assert "1 x HTTP 429: queue_full" in html
    assert "Valid: all" not in html


def test_a_load_without_a_single_good_answer_still_has_a_page() -> None:
    assert "NOT A RESULT" in page(point(outcomes=[outcome(0, error="ConnectError")], samples=[], server=None))


def test_names_are_escaped_and_nothing_is_fetched() -> None:
    html = render([("<b>file</b>", result_document("run", SUBJECT, [point()]))], SLO, "<i>title</i>")
    assert "<i>title</i>" not in html
    assert "<b>file</b>" not in html
    assert 'src="http' not in html


def test_samples_tell_what_was_cold_where_the_answers_do_not() -> None:
    outcomes = [outcome(index, residency=None) for index in range(6)]
    view = PointView("result", point(outcomes=outcomes).document())
    assert view.residency_from_samples
    # a is on the device from the first second, b from the second, c from the third; requests come each half second.
    assert [request.cold for request in view.requests] == [False, True, True, False, False, False]


def test_goodput_counts_what_met_both_promises() -> None:
    view = PointView("result", point().document())
    assert view.goodput(1.0, 0.2) == 12 / 8
    assert view.goodput(0.2, 0.2) == 9 / 8
    assert view.goodput(1.0, 0.05) == 0


def test_ratios_are_of_medians_to_the_first() -> None:
    documents = [point({"clients": clients}, repeat).document() for repeat in range(3) for clients in (1, 2)]
    for document, rate in zip(documents, (10, 30, 20, 50, 90, 40), strict=True):
        document["summary"]["tokens_per_second"] = rate
    first, second = compare(documents)
    assert (first["medians"]["tokens_per_second"], second["medians"]["tokens_per_second"]) == (20, 40)
    assert (first["ratios"]["tokens_per_second"], second["ratios"]["tokens_per_second"]) == (1, 2)


def test_a_result_has_the_ranks_that_are_known_and_what_warmed_the_server_up() -> None:
    warmed = Run(tuple(outcome(index) for index in range(2)), 1.25)
    document = replace(point(), ranks={"a": 4, "c": 8, "not asked": 32}, warmed=warmed).document()
    assert (document["adapters"], document["ranks"], document["largest_rank"]) == (list(NAMES), [4, None, 8], 32)
    assert document["warm_up"] == {
        "adapter": ["a", "b<i>"],
        "rank": [4, None],
        "sent": [-1.25, -0.75],
        "prompt_tokens": [9, 9],
        "tokens": [3, 3],
    }


def test_there_are_no_ratios_to_a_first_that_is_no_result() -> None:
    bad = [outcome(0, error="HTTP 429: queue_full"), outcome(1)]
    refusing, good = point({"clients": 1}, outcomes=bad).document(), point({"clients": 2}).document()
    assert set(compare([refusing, good])[1]["ratios"].values()) == {None}
    assert compare([good, refusing])[0]["ratios"]["tokens_per_second"] == 1


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    result, out = tmp_path / "result.json", tmp_path / "pages" / "page.html"
    write_result(result, result_document("run", SUBJECT, [point()]))
    finished = CliRunner().invoke(app, ["report", str(result), "--out", str(out), "--slo-ttft", "0.5"])
    assert finished.exit_code == 0, finished.output
    assert "TTFT at most 500.0 ms" in out.read_text()


def test_a_fairness_result_shows_what_the_others_feel() -> None:
    points = [point({"fairness": setting, "hot": hot}) for setting in ("tokens", "none") for hot in (1.0, 10.0)]
    document = result_document("fairness", SUBJECT, points)
    document["felt_by_others"] = [
        {"fairness": "tokens", "valid": True, "p95_without": 0.5, "p95_with": 0.6, "ratio": 1.2, "repeats": 3},
        {"fairness": "none", "valid": False, "p95_without": None, "p95_with": None, "ratio": None, "repeats": 0},
    ]
    html = render([("fair", document)], SLO)
    assert "What the others feel of a hot adapter: fair" in html
    assert "<td>600 ms</td>" in html
    assert "<td>no result</td>" in html


def reported(tmp_path: Path, *documents: Mapping[str, Any]) -> str:
    paths = [tmp_path / f"file-{number}.json" for number in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document))
    out = tmp_path / "page.html"
    finished = CliRunner().invoke(app, ["report", *map(str, paths), "--out", str(out)])
    return out.read_text() if finished.exit_code == 0 else " ".join(finished.output.split())


SIMULATE = ["simulate", "--adapters", "20", "--requests", "200", "--budget", "2x,4x", "--policies", "lru,belady"]


@pytest.fixture(scope="module")
def simulation() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(CliRunner().invoke(app, [*SIMULATE, "--json"]).stdout)
    return document


def test_a_simulation_is_drawn_and_is_called_no_measurement(tmp_path: Path, simulation: dict[str, Any]) -> None:
    html = reported(tmp_path, simulation)
    for part in ("Simulated: file-0", "Hit rate by cache size", "Cold starts by cache size", "belady", "<td>4x</td>"):
        assert part in html, part
    for part in ("Valid: all", "NOT A RESULT", "What was measured"):
        assert part not in html, part


def test_a_simulation_lies_beside_a_measured_load(tmp_path: Path, simulation: dict[str, Any]) -> None:
    html = reported(tmp_path, simulation, result_document("run", SUBJECT, [point()]))
    assert "Simulated: file-0" in html
    assert "Valid: all 12 requests" in html


def test_a_simulation_without_outcomes_is_refused(tmp_path: Path, simulation: dict[str, Any]) -> None:
    assert "no outcomes of" in reported(tmp_path, {**simulation, "outcomes": [{"policy": "lru"}]})


@pytest.mark.parametrize("text", ["{", "[]", '{"schema":"switchyard.loadtest/0"}', '"text"'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"result\.json"):
        read_result(path)


def test_metrics_are_read_by_tier_and_outcome() -> None:
    before = read_scrape('switchyard_adapter_cache_hits_total{tier="device"} 2\n')
    after = read_scrape(
        'switchyard_adapter_cache_hits_total{tier="device"} 5\n'
        'switchyard_adapter_cache_hits_total{tier="host"} 1\n'
        'switchyard_adapter_evictions_total{tier="device",reason="capacity"} 3\n'
        'switchyard_adapter_evictions_total{tier="host",reason="capacity"} 1\n'
        'switchyard_adapter_load_seconds_sum{source="store"} 0.5\n'
        'switchyard_adapter_load_seconds_sum{source="host"} 0.25\n'
        "switchyard_adapter_bytes 7\n"
        'vllm:lora_requests_info{running_lora_adapters="a,b"} 1\n'
    )
    rises = rise(before, after)
    assert (rises["device_hits"], rises["host_hits"], rises["evictions"]) == (3, 1, 4)
    assert rises["load_seconds_sum"] == 0.75
    assert (after.gauges, after.resident) == ({"adapter_bytes": 7.0}, ("a", "b"))
