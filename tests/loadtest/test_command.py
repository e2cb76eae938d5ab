"""The command's exit status says whether the figures are a result."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from tests.loadtest.fake_server import FakeServer

Serve = Callable[[FakeServer], str]
SMALL = ["--adapters", "4", "--requests", "5", "--max-tokens", "3", "--clients", "1,2"]


def test_good_answers_are_a_result(serve: Serve, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), *SMALL, "--json", "--out", str(out)])
    assert finished.exit_code == 0, finished.output
    printed = json.loads(finished.stdout)
    assert printed == json.loads(out.read_text())
    assert printed["valid"] is True
    assert [(entry["clients"], entry["tokens"]) for entry in printed["levels"]] == [(1, 15), (2, 15)]
    assert printed["subject"]["adapters"] == 4
    assert printed["subject"]["zipf"] == 1.0


def test_the_table_is_for_people(serve: Serve) -> None:
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), *SMALL])
    assert finished.exit_code == 0, finished.output
    assert "tok/s" in finished.stdout


@pytest.mark.parametrize("fault", ["other version", "refused"])
def test_one_bad_answer_is_no_result(serve: Serve, tmp_path: Path, fault: str) -> None:
    out = tmp_path / "report.json"
    url = serve(FakeServer(faults={7: fault}))
    finished = CliRunner().invoke(app, ["run", "--url", url, *SMALL, "--json", "--out", str(out)])
    assert finished.exit_code == 1
    assert json.loads(out.read_text())["valid"] is False
    assert "no result" in finished.stderr


def test_the_key_comes_from_the_environment(serve: Serve) -> None:
    fake = FakeServer()
    arguments = ["run", "--url", serve(fake), *SMALL]
    finished = CliRunner().invoke(app, arguments, env={"SWITCHYARD_API_KEY": "secret"})
    assert finished.exit_code == 0, finished.output
    assert fake.keys == {"Bearer secret"}
    assert "secret" not in finished.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--url", "http://127.0.0.1:9"], "error:"),
        (["--clients", "1,many"], "not a list of numbers"),
        (["--clients", "0"], "positive"),
    ],
    ids=["no server", "not a number", "no clients"],
)
def test_what_cannot_be_measured_says_why(arguments: list[str], reason: str) -> None:
    finished = CliRunner().invoke(app, ["run", *arguments])
    assert finished.exit_code != 0
    assert reason in finished.stderr
    assert "Traceback" not in finished.output


def test_more_adapters_than_the_server_has_say_so(serve: Serve) -> None:
    finished = CliRunner().invoke(app, ["run", "--url", serve(FakeServer()), "--adapters", "5"])
    assert finished.exit_code == 1
    assert "has 4 adapters" in finished.stderr
