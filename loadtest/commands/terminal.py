"""What the commands print, and how they fail."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters_store.errors import SwitchyardError
from loadtest.client import Outcome
from loadtest.measurement import WarmUpError
from loadtest.served_adapters import UnsuitableServerError

FAILURES = (WarmUpError, UnsuitableServerError, SwitchyardError, httpx.HTTPError, ValueError, OSError)
"""What may go wrong before there is a result; each message says what to do."""

# Where the table goes into a pipe or a file there is no terminal to fit into.
stdout = Console(width=None if sys.stdout.isatty() else 120)
stderr = Console(stderr=True)


def failure(error: Exception) -> typer.Exit:
    """Print an error as one line; raise what this returns."""
    stderr.print(f"error: {str(error) or type(error).__name__}", style="red", markup=False, highlight=False)
    return typer.Exit(1)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as bars:
        yield bars


def announcer(bars: Progress, title: str) -> Callable[[str, int], Callable[[Outcome], None]]:
    """Show each loop of a load as a bar of its own."""

    def announce(loop: str, total: int) -> Callable[[Outcome], None]:
        task = bars.add_task(f"{title}{loop}", total=total, visible=total > 0)
        return lambda _: bars.advance(task)

    return announce
