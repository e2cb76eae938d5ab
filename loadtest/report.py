"""What was measured, and whether it may be called a result."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from adapters_store.atomic_file import replace_file
from loadtest.client import Outcome, Run

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Distribution:
    """Mean and percentiles of a sample, in the sample's unit; NaN-free: an empty sample has None everywhere."""

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    maximum: float | None

    @classmethod
    def of(cls, sample: Iterable[float]) -> "Distribution":
        """Describe a sample."""
        values = sorted(sample)
        if not values:
            return cls(0, None, None, None, None, None)
        p50, p95, p99 = (percentile(values, at) for at in PERCENTILES)
        return cls(len(values), math.fsum(values) / len(values), p50, p95, p99, values[-1])


@dataclass(frozen=True)
class Level:
    """One run at one number of clients. Times in seconds.

    `tokens_per_second` counts the completion tokens of good answers over the wall time of the whole run. `failures`
    counts what went wrong by kind; with any, the figures are no result.
    """

    clients: int
    requests: int
    wall_seconds: float
    tokens: int
    tokens_per_second: float
    requests_per_second: float
    time_to_first_token: Distribution
    time_per_token: Distribution
    gap_between_chunks: Distribution
    request_seconds: Distribution
    adapters_used: int
    failures: Mapping[str, int]

    @property
    def valid(self) -> bool:
        """Whether every request got a full answer from the version it asked for."""
        return not self.failures


@dataclass(frozen=True)
class Report:
    """Levels of one workload against one server. `subject` says what was measured and on what."""

    subject: Mapping[str, object]
    levels: tuple[Level, ...]

    @property
    def valid(self) -> bool:
        """Whether every level is."""
        return all(level.valid for level in self.levels)

    def write(self, path: Path) -> None:
        """Write the report as JSON, replacing the file in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, self.to_json().encode() + b"\n")

    def to_json(self) -> str:
        """The report as indented JSON, with `valid` in front of the figures."""
        document = {
            "valid": self.valid,
            "subject": dict(self.subject),
            "levels": [{"valid": level.valid, **asdict(level)} for level in self.levels],
        }
        return json.dumps(document, indent=2)

    def table(self) -> Table:
        """The figures for a terminal; a level that is no result shows its failures in their place."""
        table = Table(title="Load test" if self.valid else "Load test: NOT A RESULT, see the failures")
        for heading in ("clients", "requests", "tok/s", "TTFT p50", "TTFT p95", "ms/token p50", "ms/token p95"):
            table.add_column(heading, justify="right")
        table.add_column("request p95", justify="right")
        table.add_column("failures")
        for level in self.levels:
            table.add_row(str(level.clients), str(level.requests), *_figures(level), _failures(level.failures))
        return table


def summarise(run: Run, *, clients: int, expected_digests: Mapping[str, str | None]) -> Level:
    """Turn the outcomes of one run into figures, holding every answer against the digest it must come from."""
    problems = {outcome.item.index: problem(outcome, expected_digests) for outcome in run.outcomes}
    good = [outcome for outcome in run.outcomes if problems[outcome.item.index] is None]
    tokens = sum(outcome.completion_tokens for outcome in good)
    return Level(
        clients=clients,
        requests=len(run.outcomes),
        wall_seconds=run.wall_seconds,
        tokens=tokens,
        tokens_per_second=tokens / run.wall_seconds,
        requests_per_second=len(good) / run.wall_seconds,
        time_to_first_token=Distribution.of(outcome.time_to_first_token for outcome in good),
        time_per_token=Distribution.of(
            outcome.seconds_after_first_token / (outcome.completion_tokens - 1)
            for outcome in good
            if outcome.completion_tokens > 1
        ),
        gap_between_chunks=Distribution.of(gap for outcome in good for gap in outcome.gaps),
        request_seconds=Distribution.of(outcome.seconds for outcome in good),
        adapters_used=len({outcome.item.model for outcome in good}),
        failures=dict(Counter(kind for kind in problems.values() if kind is not None).most_common()),
    )


def problem(outcome: Outcome, expected_digests: Mapping[str, str | None]) -> str | None:
    """Why an answer does not count, or None where it does.

    An answer counts when it came to its end, has exactly the tokens asked for, and was given by the very version that
    was asked, not by the base in its place.
    """
    if outcome.error is not None:
        return outcome.error
    if outcome.fallback is not None:
        return f"fallback: {outcome.fallback}"
    if outcome.digest != expected_digests[outcome.item.model]:
        return "wrong digest"
    if outcome.completion_tokens != outcome.item.max_tokens:
        return "wrong length"
    return None


def percentile(ordered: Sequence[float], at: float) -> float:
    """The `at`-th percentile (0 to 100) of a sorted, non-empty sample, interpolated between its neighbours."""
    position = (len(ordered) - 1) * at / 100
    below = math.floor(position)
    above = math.ceil(position)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _figures(level: Level) -> tuple[str, ...]:
    if not level.valid:
        return ("-",) * 6
    return (
        f"{level.tokens_per_second:.1f}",
        _seconds(level.time_to_first_token.p50),
        _seconds(level.time_to_first_token.p95),
        _milliseconds(level.time_per_token.p50),
        _milliseconds(level.time_per_token.p95),
        _seconds(level.request_seconds.p95),
    )


def _failures(failures: Mapping[str, int]) -> str:
    return "; ".join(f"{count} x {kind}" for kind, count in failures.items()) or "none"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.1f}"
