"""The demo on a terminal: made for 80 columns."""

import json
from datetime import date
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from adapters_store import Publication
from server.demo.dates import DATE_TASKS, question
from server.demo.interview import BARE
from server.demo.report import DemoReport, Score

__all__ = ["show_next_commands", "show_report", "show_start"]

_BAR_CELLS = 12
_DIGEST_DIGITS = 8
_FAILURES_SHOWN = 3


def show_start(console: Console, base: str, url: str, seconds: float, publications: tuple[Publication, ...]) -> None:
    """What is running."""
    console.print(Rule("[bold]Switchyard", align="left", style="dim"))
    _done(console, f"{base} in 4 bits, ready in {seconds:.1f} s at {url}")
    size = sum(publication.version.metadata.tensor_bytes for publication in publications) / 1e6
    _done(console, f"{len(publications)} adapters published while it runs, {size:.1f} MB together; no restart")


def show_report(console: Console, report: DemoReport) -> None:
    """What came of it."""
    _title(console, "One prompt, one model, five answers" if len(report.side_by_side) == 5 else "One prompt")
    console.print(Text(f"  {report.prompt}", style="italic"))
    console.print(_side_by_side(report))
    _title(console, f"Dates that no training saw, all {report.answers - len(report.side_by_side)} requests at once")
    console.print(Text("  The question names no language: only the adapter does.", style="italic"))
    console.print(_held_out(report.scores))
    _title(console, "What the server measured meanwhile (/metrics)")
    console.print(_figures(report))
    _verdict(console, report)


def show_next_commands(console: Console, command: str, store: Path, adapter: Path) -> None:
    """Three commands to try next, after the one that starts the server again."""
    url = "http://127.0.0.1:8000"
    _title(console, "Try next")
    _command(console, "The server again, in another terminal:", f"{command} serve --store {_short(store)}")
    asked = json.dumps(question(date(1969, 7, 20)))
    _command(
        console,
        "1. Ask an adapter:",
        f"curl {url}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n"
        f"""  -d '{{"model": "{adapter.name}", "messages": [{{"role": "user",\n       "content": {asked}}}]}}'""",
    )
    _command(
        console,
        "2. Publish an adapter, here one of these under a name of yours:",
        f"{command} adapters push my-adapter \\\n  {_short(adapter)} --url {url}",
    )
    _command(console, "3. Look at the batch:", f"curl -s {url}/metrics | grep switchyard_batch")


def _side_by_side(report: DemoReport) -> Table:
    table = _table()
    table.add_column("model", style="bold", no_wrap=True)
    table.add_column("answer")
    table.add_column("rank", justify="right")
    table.add_column("version", style="dim", no_wrap=True)
    ranks = {str(entry.version.name): str(entry.version.metadata.rank_max) for entry in report.publications}
    for answer in report.side_by_side:
        model = answer.inquiry.model
        text = " ".join(answer.text.split()) or "(nothing)"
        table.add_row(
            model,
            Text(text, style="dim" if model == BARE else "green"),
            ranks.get(model, "–"),
            "–" if answer.digest is None else answer.digest[: len("sha256:") + _DIGEST_DIGITS] + "…",
        )
    return table


def _held_out(scores: tuple[Score, ...]) -> Table:
    table = _table()
    table.add_column("adapter", style="bold", no_wrap=True)
    table.add_column("trained on")
    table.add_column("exactly right", justify="right")
    table.add_column("")
    table.add_column("base alone", justify="right", style="dim")
    locales = {task.adapter: task.locale for task in DATE_TASKS}
    for score in scores:
        cells = round(_BAR_CELLS * score.right / score.asked)
        table.add_row(
            score.adapter,
            f"CLDR dates, {locales[score.adapter]}",
            f"{score.right} of {score.asked}",
            Text("█" * cells, style="green") + Text("░" * (_BAR_CELLS - cells), style="dim"),
            f"{score.base_right} of {score.asked}",
        )
    return table


def _figures(report: DemoReport) -> Table:
    figures = report.figures
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("Adapters in a step", f"{figures.adapters_mean:.1f} on average, up to {figures.adapters_max:.0f}")
    table.add_row("Rows in a step", f"{figures.rows_mean:.1f} on average, up to {figures.rows_max:.0f}")
    table.add_row("Adapter cache", f"{figures.cache_hits} hits, {figures.cache_misses} misses")
    table.add_row("Adapter loads", f"{figures.loads}, {figures.load_ms:.0f} ms each")
    table.add_row(
        "Tokens",
        f"{figures.tokens_per_second:.0f} generated a second ({figures.tokens} in {report.held_out_seconds:.1f} s)",
    )
    table.add_row("First token", f"after {figures.first_token_p50_ms / 1000:.2f} s (median, queue included)")
    return table


def _verdict(console: Console, report: DemoReport) -> None:
    console.print()
    if report.failures:
        _failed(console, f"{len(report.failures)} of {report.answers} answers failed:")
        for failure in report.failures[:_FAILURES_SHOWN]:
            console.print(Text(f"    {failure}", style="red"))
    else:
        _done(console, f"All {report.answers} answers carry the digest of the right adapter version")
    for score in report.scores:
        if score.right <= score.base_right:
            _failed(console, f"{score.adapter} does not beat the base")


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=True, expand=False)


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold cyan"))


def _command(console: Console, what: str, command: str) -> None:
    console.print(Text(f"  {what}", style="dim"))
    # Not wrapped: a command that was broken by the terminal cannot be pasted.
    console.print(Text("\n".join(f"    {line}" for line in command.splitlines())), soft_wrap=True)


def _done(console: Console, text: str) -> None:
    console.print(Text.assemble(("✓ ", "green"), text))


def _failed(console: Console, text: str) -> None:
    console.print(Text.assemble(("✗ ", "bold red"), text))


def _short(path: Path) -> str:
    """The shortest way to write a path: from here, or from the home directory."""
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    if path.is_relative_to(Path.home()):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)
