"""`python -m loadtest simulate`, and what it says of a real server's run."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.simulation.budget import parse_budget
from loadtest.simulation.comparison import ComparisonError, real_run
from loadtest.trace import Arrival, write_trace

SMALL = ("--adapters", "30", "--requests", "600", "--budget", "4x,8x", "--host", "16x")


def simulated(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    ran = CliRunner().invoke(app, ["simulate", *arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    found: dict[str, list[dict[str, Any]]] = json.loads(ran.stdout)
    return found


def refused(*arguments: str) -> str:
    ran = CliRunner().invoke(app, ["simulate", *arguments])
    assert ran.exit_code == 1
    return " ".join(ran.output.split())


@pytest.mark.parametrize("popularity", ["uniform", "zipf", "drifting", "diurnal", "bursty"])
def test_generated_traffic_is_simulated_at_every_budget_under_every_policy(popularity: str) -> None:
    found = simulated("--popularity", popularity, *SMALL)
    assert [(one["budget_multiple"], one["policy"]) for one in found["outcomes"]] == [
        (multiple, policy) for multiple in (4, 8) for policy in ("lru", "lfu", "cost", "predicted", "belady")
    ]
    assert all(one["requests"] == 600 for one in found["outcomes"])


def test_a_recorded_trace_is_simulated_with_the_sizes_and_times_given(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.jsonl", [Arrival(float(at), "ab"[at % 2], 10, 10) for at in range(10)])
    (tmp_path / "sizes.json").write_text('{"a": 100, "b": 50}')
    (tmp_path / "server.json").write_text('{"loads": {"read_overhead_seconds": 0.5, "workers": 1}}')
    found = simulated(
        *("--trace", str(tmp_path / "trace.jsonl"), "--sizes", str(tmp_path / "sizes.json"), "--budget", "1.5x"),
        *("--server", str(tmp_path / "server.json"), "--policies", "lru"),
    )
    assert found["outcomes"][0]["device_budget_bytes"] == 150
    assert found["outcomes"][0]["cold_starts"] == 2
    assert found["outcomes"][0]["cold_wait_p50"] > 0.5


def test_the_table_and_the_file_are_for_people_and_for_the_report(tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        app, ["simulate", *SMALL, "--out", str(tmp_path / "result.json"), "--plot", str(tmp_path / "p.html")]
    )
    assert ran.exit_code == 0
    assert "belady" in ran.output
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "simulation"
    assert "belady" in (tmp_path / "p.html").read_text()


def test_what_cannot_be_simulated_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "fifo" in refused("--policies", "fifo")
    assert "16y" in refused("--budget", "16y")
    assert "--ranks" in refused("--ranks", "4,x")
    assert "raise the device budget" in refused("--budget", "0.5x", *SMALL[:4])
    (tmp_path / "server.json").write_text('{"loads": {"speed": 1}}')
    assert "speed" in refused("--server", str(tmp_path / "server.json"))


def result(**point: object) -> dict[str, object]:
    requests = {"adapter": [0, 1, 0], "sent": [0.5, 1.5, 2.5], "prompt_tokens": [9, 9, 9], "tokens": [4, 4, 4]}
    server = {"device_hits": 1, "device_misses": 2, "host_hits": 0, "host_misses": 2, "loads": 2, "evictions": 0}
    ranks = {"adapters": ["a", "b"], "ranks": [4, 8], "largest_rank": 8}
    return {"points": [{"valid": True, **ranks, "requests": requests, "server": server} | point]}


def test_a_real_run_is_simulated_at_its_own_times_and_the_errors_are_stated(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(result()))
    found = simulated("--compare", str(path), "--policies", "lru", "--budget", "2x")
    errors = {figure["name"]: figure["error"] for figure in found["compared"]}
    assert errors == {"device hit rate": 0, "host hit rate": 0, "loads": 0, "evictions": 0}
    ran = CliRunner().invoke(app, ["simulate", "--compare", str(path), "--policies", "lru", "--budget", "1x"])
    assert "Against the real server" in ran.output


def compared(tmp_path: Path, *arguments: str, **point: object) -> dict[str, Any]:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(result(**point)))
    return simulated("--compare", str(path), "--policies", "lru", "--bytes-per-rank", "10", *arguments)


def test_the_sizes_follow_from_the_ranks_of_what_was_published(tmp_path: Path) -> None:
    # The load asked for the smaller ones alone; the cache was made for the largest.
    found = compared(tmp_path, "--budget", "1x", ranks=[4, 4], largest_rank=32)
    assert found["largest_adapter_bytes"] == 320
    (outcome,) = found["outcomes"]
    assert (outcome["evictions"], outcome["peak_device_bytes"]) == (0, 80)


def test_ranks_that_the_result_does_not_say_must_be_given(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(result(ranks=[4, None], largest_rank=None)))
    assert "rank of 'b'" in refused("--compare", str(path))
    assert "rank of 'b'" in refused("--compare", str(path), "--ranks", "4,8")
    found = compared(tmp_path, "--ranks", "16", ranks=[4, None], largest_rank=None)
    assert found["outcomes"][0]["peak_device_bytes"] == 40 + 160


def test_ranks_and_warm_up_of_a_result_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(result()))
    assert "--ranks" in refused("--compare", str(path), "--ranks", "8")
    assert "--warm-up" in refused("--compare", str(path), "--warm-up", "0.5")


def test_the_servers_warm_up_is_simulated_first_and_does_not_count(tmp_path: Path) -> None:
    warm_up = {"adapter": ["b", "c"], "rank": [8, 8], "sent": [-3.0, -2.0], "prompt_tokens": [9, 9], "tokens": [4, 4]}
    found = compared(tmp_path, "--budget", "3x", warm_up=warm_up)
    (outcome,) = found["outcomes"]
    # b is on the device when the measured part asks for it; c is known only from the warm-up.
    assert (outcome["lookups"], outcome["device_hits"], outcome["loads_from_store"]) == (3, 2, 1)
    assert outcome["peak_device_bytes"] == 200
    assert found["trace"]["measured_from"] == 3.5


@pytest.mark.parametrize(("point", "reason"), [({"valid": False}, "failures"), ({"server": None}, "counters")])
def test_a_run_that_is_no_result_is_not_compared_with(tmp_path: Path, point: dict[str, object], reason: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(result(**point)))
    with pytest.raises(ComparisonError, match=reason):
        real_run(path)


@given(st.text(max_size=8))
def test_a_size_is_parsed_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_budget(text, 100) >= 0


@pytest.mark.parametrize(("text", "size"), [("16x", 1600), ("0.5X", 50), ("2KiB", 2048), ("7", 7), ("0", 0)])
def test_sizes_are_in_bytes_or_in_the_largest_adapter(text: str, size: int) -> None:
    assert parse_budget(text, 100) == size
