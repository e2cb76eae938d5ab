"""Results on standard output, everything else on standard error."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console, RenderableType

# Where a table goes into a pipe or a file there is no terminal to fit into.
_PIPE_WIDTH = 200
# Columns up to which a terminal has no place for a whole digest.
_NARROW_WIDTH = 100


class Output:
    """What a command says: for people, or as JSON with `--json`."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stderr = Console(stderr=True, highlight=False)

    def result(self, data: dict[str, Any], text: str) -> None:
        """The result: `data` as JSON, or `text` for people."""
        self._write(f"{_json(data)}\n" if self.as_json else f"{text}\n")

    def table(self, data: dict[str, Any], draw: Callable[[bool], RenderableType]) -> None:
        """A result with rows: `data` as JSON, or a table for people, drawn for a narrow terminal or not."""
        if self.as_json:
            self._write(f"{_json(data)}\n")
            return
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        console = Console(width=width, highlight=False)
        console.print(draw(console.width <= _NARROW_WIDTH))

    def warning(self, text: str) -> None:
        """Something to know that is no result."""
        self.stderr.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _json(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
