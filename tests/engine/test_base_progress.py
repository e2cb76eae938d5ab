"""Progress on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from server.engine.base_progress import SilentProgress, TerminalProgress


def test_without_a_terminal_a_stage_is_two_plain_lines() -> None:
    written = io.StringIO()
    with TerminalProgress(Console(file=written, width=80)).stage("Fetching [it]", 2_000_000) as advance:
        advance(1_000_000)
        assert written.getvalue() == "Fetching [it] (2.0 MB) …\n"
    assert written.getvalue().splitlines()[1].startswith("Fetching [it]: done in ")
    assert "\x1b" not in written.getvalue()


def test_on_a_terminal_a_bar_counts_bytes() -> None:
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=True, color_system=None, force_interactive=True)
    with TerminalProgress(console).stage("Fetching", 2_000_000) as advance:
        advance(1_500_000)
    assert "1.5/2.0 MB" in written.getvalue()
    assert "Fetching: done in" in written.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failed_stage_is_not_reported_as_done(terminal: bool) -> None:
    written = io.StringIO()
    progress = TerminalProgress(Console(file=written, force_terminal=terminal))
    with pytest.raises(ValueError, match="no"), progress.stage("Converting"):
        raise ValueError("no")
    assert "done" not in written.getvalue()


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().stage("Quantising"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Quantising: done in" in captured.err


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().stage("Quantising", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
