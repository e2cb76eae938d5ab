"""The commands' exit status says whether the figures are a result."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.result import SCHEMA
from loadtest.trace import Arrival, write_trace
from tests.loadtest.fake_server import FakeServer

Serve = Callable[[FakeServer], str]
SMALL = ["--adapters", "4", "--requests", "5", "--warm-up", "3", "--output-tokens", "3", "--clients", "2"]


def test_good_answers_are_a_result(serve: Serve, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), *SMALL, "--json", "--out", str(out)])
    assert finished.exit_code == 0, finished.output
    printed = json.loads(finished.stdout)
    assert printed == json.loads(out.read_text())
    assert (printed["schema"], printed["valid"]) == (SCHEMA, True)
    (point,) = printed["points"]
    assert point["summary"]["good"] == 5
    assert point["summary"]["tokens"] == 15
    assert len(point["warm_up"]["adapter"]) == 3
    assert max(point["warm_up"]["sent"]) < 0
    assert set(point["ranks"]) == {None}
    assert point["server"]["device_hits"] + point["server"]["device_misses"] == 5
    assert set(point["requests"]["residency"]) <= {"device", "store"}
    assert printed["subject"]["options"]["zipf"] == 1.0
    assert printed["subject"]["machine"]["cores"]


def test_the_table_is_for_people(serve: Serve) -> None:
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), *SMALL])
    assert finished.exit_code == 0, finished.output
    assert "tok/s" in finished.stdout


@pytest.mark.parametrize(("fault", "kind"), [("other version", "wrong digest"), ("refused", "HTTP 429: queue_full")])
def test_one_bad_answer_is_no_result(serve: Serve, tmp_path: Path, fault: str, kind: str) -> None:
    out = tmp_path / "result.json"
    url = serve(FakeServer(faults={7: fault}))
    finished = CliRunner().invoke(app, ["run", "--url", url, *SMALL, "--json", "--out", str(out)])
    assert finished.exit_code == 1
    assert json.loads(out.read_text())["valid"] is False
    assert "no result" in finished.stderr
    assert kind in finished.stderr


def test_a_running_server_is_asked_no_prompt_twice(serve: Serve) -> None:
    fake = FakeServer()
    arguments = ["sweep", "--url", serve(fake), *SMALL[:-1], "1,2", "--repeats", "2", "--json"]
    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code == 0, finished.output
    prompts = [body["messages"][0]["content"] for body in fake.requests]
    assert len(set(prompts)) == len(prompts) == 4 * (3 + 5)
    asked = [body["model"] for body in fake.requests]
    assert sorted(asked[:8]) == sorted(asked[8:16])


def test_failures_are_counted_over_all_loads(serve: Serve) -> None:
    # 2 loads of 3 + 5 requests: one is refused of the first, two of the second.
    url = serve(FakeServer(faults={7: "refused", 12: "refused", 13: "refused"}))
    finished = CliRunner().invoke(app, ["sweep", "--url", url, *SMALL[:-1], "1,2"])
    assert finished.exit_code == 1
    assert "3 x HTTP 429: queue_full" in re.sub(r"\s+", " ", finished.stderr)


def test_a_bad_warm_up_ends_the_test(serve: Serve) -> None:
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer(faults={0: "fallback"})), *SMALL])
    assert finished.exit_code == 1
    assert "fallback: timeout" in finished.stderr


def test_the_key_comes_from_the_environment_and_is_in_no_result(serve: Serve) -> None:
    fake = FakeServer()
    arguments = ["run", "--url", serve(fake), *SMALL, "--json"]
    finished = CliRunner().invoke(app, arguments, env={"SWITCHYARD_API_KEY": "secret"})
    assert finished.exit_code == 0, finished.output
    assert fake.keys == {"Bearer secret"}
    assert "secret" not in finished.output


def test_a_recorded_trace_is_replayed_at_its_times(serve: Serve, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, [Arrival(0.4 * n, f"adapter-{n % 2}", 10 + n, 2 + n, "acme") for n in range(4)])
    fake = FakeServer()
    options = ["--trace", str(trace), "--speed-up", "4", "--warm-up", "1", "--longest-output", "4", "--json"]
    finished = CliRunner().invoke(app, ["run", "--url", serve(fake), *options])
    assert finished.exit_code == 0, finished.output
    (point,) = json.loads(finished.stdout)["points"]
    assert point["requests"]["scheduled"] == pytest.approx([0.0, 0.1, 0.2])
    assert point["requests"]["prompt_tokens"] == [11, 12, 13]
    assert point["requests"]["tokens"] == [3, 4, 4]
    assert point["requests"]["tenant"] == ["acme"] * 3
    assert [body["model"] for body in fake.requests][-3:] == ["adapter-1", "adapter-0", "adapter-1"]


def test_a_sweep_has_medians_and_ratios_of_interleaved_repeats(serve: Serve) -> None:
    arguments = ["sweep", "--url", serve(FakeServer()), *SMALL[:-1], "1,4", "--repeats", "2", "--json"]
    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code == 0, finished.output
    document = json.loads(finished.stdout)
    assert [(point["varied"], point["repeat"]) for point in document["points"]] == [
        ({"clients": 1}, 0),
        ({"clients": 4}, 0),
        ({"clients": 1}, 1),
        ({"clients": 4}, 1),
    ]
    one, four = document["comparison"]
    assert (one["repeats"], four["varied"]) == (2, {"clients": 4})
    assert one["ratios"]["tokens_per_second"] == 1
    ratio = four["medians"]["tokens_per_second"] / one["medians"]["tokens_per_second"]
    assert four["ratios"]["tokens_per_second"] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "--url", "http://127.0.0.1:9"], "error:"),
        (["run", "--clients", "1,many"], "not a list of numbers"),
        (["run", "--clients", "0"], "positive"),
        (["run", "--clients", "1,2"], "take `sweep`"),
        (["run", "--clients", "1", "--rate", "2"], "give one of them"),
        (["sweep", "--working-set", "2x"], "--cache"),
        (["sweep", "--url", "http://127.0.0.1:9", "--vary", "window_ms=0,10"], "a server of our own"),
        (["sweep", "--vary", "window_ms"], "write a setting and its values"),
        (["run", "--url", "http://127.0.0.1:9", "--", "--eviction", "lru"], "leave --url out"),
        (["run", "--trace", "none.jsonl"], "none.jsonl"),
        (["report", "none.json"], "none.json"),
        (["baseline", "--clients", "0"], "positive"),
    ],
)
def test_what_cannot_be_measured_says_why(arguments: list[str], reason: str) -> None:
    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code != 0
    assert reason in re.sub(r"\s+", " ", finished.stderr)
    assert "Traceback" not in finished.output


def test_more_adapters_than_the_server_has_say_so(serve: Serve) -> None:
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), "--adapters", "5"])
    assert finished.exit_code == 1
    assert "has 4 adapters" in finished.stderr


@pytest.mark.parametrize("command", ["run", "sweep", "report"])
def test_help_has_examples(command: str) -> None:
    finished = CliRunner().invoke(app, [command, "--help"])
    assert finished.exit_code == 0
    assert f"python -m loadtest {command}" in finished.stdout
