"""The demo on a terminal of 80 columns, and in a pipe."""

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from server.demo.command import ADAPTERS
from server.demo.dates import DATE_TASKS
from server.demo.screen import show_next_commands, show_report, show_start
from tests.demo.example_report import example_report


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_fits_80_columns(console: Console) -> None:
    report = example_report()
    show_start(console, "smollm2-135m", "http://127.0.0.1:54321", 12.3, report.publications)
    show_report(console, report)
    show_next_commands(console, ".venv/bin/switchyard", Path.home() / ".cache/switchyard/demo/store", ADAPTERS / "x")
    assert max(len(line) for line in written(console).splitlines()) <= 80


def test_the_report_shows_every_answer_score_and_figure(console: Console) -> None:
    show_report(console, example_report())
    text = written(console)
    assert "Write the date 2005-08-10 in words." in text
    for shown in ("10 août 2005", "10 agosto 2005", "23 of 24", "3.9 on average, up to 4", "96 hits, 4 misses"):
        assert shown in text
    for task in DATE_TASKS:
        assert text.count(task.adapter) >= 2
    assert "✓ All 125 answers" in text
    assert "✗" not in text


def test_failures_are_shown_instead_of_a_success(console: Console) -> None:
    show_report(console, example_report(right=1, base_right=2, failures=("APIError: [boom]",) * 5))
    text = written(console)
    assert "✗ 5 of 125 answers failed:" in text
    assert text.count("APIError: [boom]") == 3
    assert "✗ french-dates does not beat the base" in text
    assert "✓ All" not in text


def test_the_commands_can_be_pasted(console: Console) -> None:
    show_next_commands(console, ".venv/bin/switchyard", Path.cwd() / "store", Path.cwd() / "server/demo/adapters/a")
    commands = written(console).replace(" \\\n", " ")
    lines = [line.strip() for line in commands.splitlines() if line.startswith("    ")]
    assert shlex.split(lines[0]) == [".venv/bin/switchyard", "serve", "--store", "store"]
    assert shlex.split(next(line for line in lines if "push" in line))[:6] == [
        ".venv/bin/switchyard",
        "adapters",
        "push",
        "my-adapter",
        "server/demo/adapters/a",
        "--url",
    ]
    assert any(line.startswith("curl http://127.0.0.1:8000/v1/chat/completions") for line in lines)
    assert any("/metrics" in line for line in lines)
