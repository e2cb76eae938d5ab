"""A trace: who asked what and when. The one form that generated, recorded and public traffic take here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from adapters_store.atomic_file import replace_file


class TraceError(ValueError):
    """A trace cannot be read; the message names the file, the line and the field."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. `at` is in seconds from the start of the trace; `adapter` is a name, or `base`."""

    at: float
    adapter: str
    prompt_tokens: int
    output_tokens: int
    tenant: str = ""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    at: Annotated[float, Meta(ge=0)]
    adapter: Annotated[str, Meta(min_length=1)]
    prompt_tokens: Annotated[int, Meta(ge=1)]
    output_tokens: Annotated[int, Meta(ge=1)]
    tenant: str = ""


def read_trace(path: Path) -> Iterator[Arrival]:
    """Read a trace of JSON lines, one arrival each, as they are needed. Empty lines are passed over.

    Raises:
        TraceError: a line is no arrival, or earlier than the one before it.
        OSError: the file cannot be read.
    """
    decoder = msgspec.json.Decoder(_Line)
    before = 0.0
    with path.open("rb") as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                line = decoder.decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise TraceError(f"{path}, line {number}: {error}") from error
            if line.at < before:
                raise TraceError(f"{path}, line {number}: at: {line.at} is before the line above, {before}: sort them")
            before = line.at
            yield Arrival(line.at, line.adapter, line.prompt_tokens, line.output_tokens, line.tenant)


def write_trace(path: Path, arrivals: Iterable[Arrival]) -> int:
    """Write a trace as JSON lines, replacing the file in one step, and return the number of arrivals.

    Raises:
        TraceError: the arrivals are not in the order of their times.
    """
    encoder = msgspec.json.Encoder()
    lines: list[bytes] = []
    before = 0.0
    for arrival in arrivals:
        if arrival.at < before:
            raise TraceError(f"{path}: arrival {len(lines) + 1} is before the one in front of it: sort them")
        before = arrival.at
        lines.append(encoder.encode(arrival) + b"\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, b"".join(lines))
    return len(lines)


def faster(arrivals: Iterable[Arrival], factor: float) -> Iterator[Arrival]:
    """The same arrivals, `factor` times as fast; below 1 is slower.

    Raises:
        ValueError: the factor is not positive.
    """
    if not factor > 0:
        raise ValueError("speed-up: must be more than 0")
    for arrival in arrivals:
        yield Arrival(
            arrival.at / factor, arrival.adapter, arrival.prompt_tokens, arrival.output_tokens, arrival.tenant
        )
