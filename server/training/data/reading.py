"""Training files: JSONL, read line by line within limits. Imports no torch; the API checks uploads with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from server.errors import InvalidTrainingFile, LineProblem
from server.training.data.example_forms import ExampleKind, MalformedExample, example_of, kind_of
from server.training.example import Example

__all__ = ["CheckedFile", "ExampleFile", "Limits", "check_examples", "read_examples"]

_MIB: Final = 1024 * 1024
_CHUNK_BYTES: Final = _MIB
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_OTHER_FILES: Final = (
    (b"\xff\xfe", "is UTF-16 or UTF-32: save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16: save it as UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"PK\x03\x04", "is a zip archive: unpack it"),
    (b"PAR1", "is a Parquet file: convert it to JSONL"),
)


@dataclass(frozen=True)
class Limits:
    """What a training file may hold at most. `nesting` counts levels of objects and arrays in a line.

    `shown_problems` is how many of a file's problems an error lists; it counts the others.
    """

    line_bytes: int = _MIB
    lines: int = 1_000_000
    file_bytes: int = 512 * _MIB
    nesting: int = 64
    shown_problems: int = 20


@dataclass(frozen=True)
class CheckedFile:
    """A file whose every line is an example of one kind."""

    kind: ExampleKind
    count: int


@dataclass(frozen=True)
class ExampleFile:
    """The examples of a file, in its order. All are of one kind."""

    examples: Sequence[Example]
    kind: ExampleKind

    @property
    def count(self) -> int:
        return len(self.examples)


def read_examples(path: Path, *, limits: Limits = Limits()) -> ExampleFile:
    """Every example of a file, in memory. Blank lines count as lines and hold none.

    Raises:
        InvalidTrainingFile: lines are malformed, too many or too long, or the kinds are mixed; it lists the lines.
        OSError: the file cannot be read.
    """
    examples: list[Example] = []
    checked = _check(path, limits, examples)
    return ExampleFile(tuple(examples), checked.kind)


def check_examples(path: Path, *, limits: Limits = Limits()) -> CheckedFile:
    """What a file holds, in the memory of one line.

    Raises:
        InvalidTrainingFile, OSError: as `read_examples`.
    """
    return _check(path, limits, None)


@dataclass
class _Problems:
    shown_most: int
    shown: list[LineProblem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, message: str) -> None:
        self.count += 1
        if len(self.shown) < self.shown_most:
            self.shown.append(LineProblem(line, message))


class _FileRefused(Exception):
    """Reading on is of no use: of the whole file, found at a line."""


def _check(path: Path, limits: Limits, kept: list[Example] | None) -> CheckedFile:
    problems = _Problems(limits.shown_problems)
    kind: ExampleKind | None = None
    count, first_line, number = 0, 0, 1
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file, limits), start=1):
                if number > limits.lines:
                    raise _FileRefused(f"is line {number}; a file has at most {limits.lines:,} lines: split it")
                try:
                    if (example := _example(line, limits)) is None:
                        continue
                    found = kind_of(example)
                    if kind is not None and found != kind:
                        raise MalformedExample(
                            f"is a {found} example, and line {first_line} a {kind} one: a file holds one kind; split it"
                        )
                except MalformedExample as error:
                    problems.add(number, str(error))
                    continue
                if kind is None:
                    kind, first_line = found, number
                count += 1
                if kept is not None:
                    kept.append(example)
    except _FileRefused as refused:
        problems.add(number, str(refused))
    if kind is None and not problems.count:
        problems.add(1, "the file holds no example: write one JSON object to a line")
    if problems.count or kind is None:
        raise InvalidTrainingFile(tuple(problems.shown), problems.count)
    return CheckedFile(kind, count)


def _lines(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """The lines without their ends; one that is too long is cut one byte after the limit, for `_example` to refuse."""
    begin = file.read(len(_UTF8_MARK) + 1)
    for mark, what in _OTHER_FILES:
        if begin.startswith(mark):
            raise _FileRefused(f"the file {what}")
    file.seek(len(_UTF8_MARK) if begin.startswith(_UTF8_MARK) else 0)
    read = 0
    while line := file.readline(limits.line_bytes + 2):
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(_CHUNK_BYTES)):
            read += len(rest)
            _check_size(read, limits)
        read += len(line)
        _check_size(read, limits)
        yield line.rstrip(b"\r\n") if rest is line or len(line) <= limits.line_bytes else line


def _check_size(read: int, limits: Limits) -> None:
    if read > limits.file_bytes:
        raise _FileRefused(f"the file is larger than {limits.file_bytes:,} bytes: split it")


def _example(line: bytes, limits: Limits) -> Example | None:
    if len(line) > limits.line_bytes:
        raise MalformedExample(
            f"is longer than {limits.line_bytes:,} bytes: write one example to a line, and split what is that long"
        )
    if not line.strip():
        return None
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedExample(f"is not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8") from None
    if b"\x00" in line:
        raise MalformedExample("holds a NUL byte: save the file as UTF-8 text, or remove the byte")
    try:
        value = msgspec.json.decode(line)
    except RecursionError:
        raise MalformedExample(_too_deep(limits)) from None
    except msgspec.DecodeError as error:
        raise MalformedExample(f"is no JSON: {_plain(str(error))}; write one JSON object to a line") from None
    _check_texts(value, limits, escaped_nul=b"\\u0000" in line)
    return example_of(value)


def _plain(complaint: str) -> str:
    if "utf-16" in complaint or complaint == "Input data was truncated":
        return f"{complaint} (cut off, or half of a surrogate pair)"
    return complaint


def _check_texts(value: object, limits: Limits, *, escaped_nul: bool) -> None:
    """Refuse what is nested too deeply, and texts with NUL: neither databases nor terminals take those."""
    level, depth = [value], 0
    while level:
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > limits.nesting:
            raise MalformedExample(_too_deep(limits))
        if escaped_nul and any(isinstance(item, str) and "\x00" in item for item in level):
            raise MalformedExample("holds the character NUL (\\u0000) in a text: remove it")
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inner(outer)]


def _inner(outer: dict[str, object] | list[object]) -> list[object]:
    return [*outer.keys(), *outer.values()] if isinstance(outer, dict) else outer


def _too_deep(limits: Limits) -> str:
    return f"is nested too deeply: at most {limits.nesting} levels are taken; flatten it"
