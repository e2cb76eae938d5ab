"""Public traces of LLM services as arrivals: BurstGPT and the Azure LLM inference traces, told apart by their columns.

Neither says which adapter was asked, so it is drawn: by a seeded popularity, or from a column of the trace, whose every
value then has one adapter (`Model`, `Session ID`).
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

import numpy as np

from loadtest.trace import Arrival, TraceError
from loadtest.workloads.arrival_times import CHUNK
from loadtest.workloads.popularity import Popularity

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class _Format:
    time: str
    prompt: str
    output: str
    seconds: Callable[[str], float]


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


BURSTGPT = _Format("Timestamp", "Request tokens", "Response tokens", float)
AZURE = _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", _timestamp)
FORMATS = {"burstgpt": BURSTGPT, "azure": AZURE}


@dataclass(frozen=True)
class Assignment:
    """Which of `names` a row asks: by a popularity over their number, or by the value of `column`."""

    names: tuple[str, ...]
    popularity: Popularity | None = None
    column: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.popularity is None) == (self.column is None):
            raise ValueError("assignment: give a popularity or a column")
        if self.popularity is not None and self.popularity.adapters != len(self.names):
            raise ValueError(f"names: {len(self.names)} were given for {self.popularity.adapters} adapters")


@dataclass(frozen=True)
class _Request:
    at: float
    prompt_tokens: int
    output_tokens: int
    key: str


def read_public_trace(path: Path, assignment: Assignment) -> Iterator[Arrival]:
    """Read a CSV file of BurstGPT or of Azure, as it is needed. Its first request is at 0.

    Rows without prompt or without answer, which are failures of the service, are left out. Both traces are sorted; a
    time that goes back a little, as clocks do, counts as the time before it.

    Raises:
        TraceError: the columns are of neither, or a row cannot be read; the message says which.
        OSError: the file cannot be read.
    """
    requests = _requests(path, assignment.column)
    if assignment.column is not None:
        for request in requests:
            name = assignment.names[_number(f"{assignment.seed}/{request.key}") % len(assignment.names)]
            yield Arrival(request.at, name, request.prompt_tokens, request.output_tokens)
        return
    assert assignment.popularity is not None
    random = np.random.default_rng(assignment.seed)
    names = [assignment.names[index] for index in random.permutation(len(assignment.names))]
    while chunk := list(islice(requests, CHUNK)):
        times = np.array([request.at for request in chunk])
        for request, adapter in zip(chunk, assignment.popularity.choose(times, random).tolist(), strict=True):
            yield Arrival(request.at, names[adapter], request.prompt_tokens, request.output_tokens)


def is_public_trace(path: Path) -> bool:
    """Whether the file has the columns of a public trace."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return _format_of(next(csv.reader(file), [])) is not None


def _requests(path: Path, column: str | None) -> Iterator[_Request]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        format_ = _format_of(columns)
        if format_ is None:
            raise TraceError(f"{path}: the columns {', '.join(columns)} are neither BurstGPT's nor Azure's")
        if column is not None and column not in columns:
            raise TraceError(f"{path}: there is no column {column!r}, but {', '.join(columns)}")
        first = next(rows, None)
        if first is None:
            return
        start = _read(path, 2, first, format_, column).at
        before = 0.0
        for row in chain([first], rows):
            request = _read(path, rows.line_num, row, format_, column)
            if request.prompt_tokens < 1 or request.output_tokens < 1:
                continue
            before = max(before, request.at - start)
            yield _Request(before, request.prompt_tokens, request.output_tokens, request.key)


def _read(path: Path, line: int, row: Row, format_: _Format, column: str | None) -> _Request:
    try:
        return _Request(
            at=format_.seconds(row[format_.time] or ""),
            prompt_tokens=int(float(row[format_.prompt] or "")),
            output_tokens=int(float(row[format_.output] or "")),
            key=(row[column] or "") if column is not None else "",
        )
    except (ValueError, OverflowError) as error:
        raise TraceError(f"{path}, line {line}: {error}") from error


def _format_of(columns: Iterable[str]) -> _Format | None:
    known = set(columns)
    return next((f for f in FORMATS.values() if {f.time, f.prompt, f.output} <= known), None)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
