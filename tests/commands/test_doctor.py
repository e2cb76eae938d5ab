"""`switchyard doctor` says what the machine has, which kernels would compute on it, and why."""

import json

import pytest
from typer.testing import CliRunner

from server.cli import app


def doctor(*flags: str) -> dict[str, object]:
    finished = CliRunner().invoke(app, ["doctor", "--json", "--device", "cpu", *flags])
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("flags", "kernels", "reason"),
    [
        (["--numerics", "exact"], "reference", "numerics is exact"),
        (["--quantization", "none"], "torch", "the base is not quantised"),
    ],
)
def test_kernels_and_the_reason(flags: list[str], kernels: str, reason: str) -> None:
    found = doctor(*flags, "--threads", "3")
    assert (found["kernels"], found["because"], found["step threads"]) == (kernels, reason, 3)


def test_the_report_for_people_has_a_line_each() -> None:
    finished = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert finished.exit_code == 0, finished.output
    names = [line.split("  ")[0] for line in finished.stdout.splitlines()]
    assert names == ["processor", "system", "device", "step threads", "kernels", "because", "versions"]
    assert "torch 2" in finished.stdout
