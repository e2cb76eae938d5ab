"""How a long preparation of a base model is shown: one line per stage, a bar where the size is known."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

__all__ = ["Advance", "Progress", "SilentProgress", "TerminalProgress"]

Advance = Callable[[int], None]


class Progress(Protocol):
    """Told about each stage of a preparation as it starts and ends."""

    def stage(self, description: str, total_bytes: int | None = None) -> AbstractContextManager[Advance]:
        """One stage. The value it yields takes the number of bytes done since the last call."""


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def stage(self, description: str, total_bytes: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        yield _ignore


class TerminalProgress:
    """Bars on a terminal; on anything else one plain line when a stage starts and one when it ends. On stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console if console is not None else Console(stderr=True)

    @contextmanager
    def stage(self, description: str, total_bytes: int | None = None) -> Iterator[Advance]:
        start = time.monotonic()
        shown = self._bar if self._console.is_terminal else self._line
        with shown(description, total_bytes) as advance:
            yield advance
        self._console.print(f"{description}: done in {time.monotonic() - start:.1f} s", highlight=False, markup=False)

    @contextmanager
    def _bar(self, description: str, total_bytes: int | None) -> Iterator[Advance]:
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        sized = [BarColumn(), DownloadColumn()] if total_bytes is not None else []
        with RichProgress(*columns, *sized, TimeElapsedColumn(), console=self._console, transient=True) as bar:
            task = bar.add_task(description, total=total_bytes)
            yield lambda done: bar.advance(task, done)

    @contextmanager
    def _line(self, description: str, total_bytes: int | None) -> Iterator[Advance]:
        size = f" ({decimal(total_bytes)})" if total_bytes is not None else ""
        self._console.print(f"{description}{size} …", highlight=False, markup=False)
        yield _ignore


def _ignore(done: int) -> None:  # noqa: ARG001
    return None
