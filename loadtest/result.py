"""The JSON result of `run` and `sweep`: what was asked of what, every request, and whether it counts."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from adapters_store.atomic_file import replace_file
from loadtest.client import Outcome, Run
from loadtest.report import Distribution, problem
from loadtest.sampler import Sample

SCHEMA = "switchyard.loadtest/1"


class ResultError(ValueError):
    """A file is no result of this version; the message says why."""


@dataclass(frozen=True)
class Point:
    """One measured load. `varied` says what distinguishes it from the others of its sweep.

    `digests` are the versions that had to answer, by name. `server` is the rise of the server's counters during the
    load, None where it shows none. `ranks` are those of adapters, as far as they are known, asked or not. `warmed` is
    the loop right before, which is not measured.
    """

    run: Run
    digests: Mapping[str, str | None]
    samples: Sequence[Sample] = ()
    server: Mapping[str, float] | None = None
    varied: Mapping[str, object] | None = None
    repeat: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict)
    warmed: Run | None = None

    @property
    def failures(self) -> dict[str, int]:
        """What went wrong, by kind."""
        found = (problem(outcome, self.digests) for outcome in self.run.outcomes)
        return dict(Counter(kind for kind in found if kind is not None).most_common())

    def document(self) -> dict[str, Any]:
        """This point in the result. Times in seconds; an adapter is an index of `adapters`."""
        names = sorted({outcome.item.model for outcome in self.run.outcomes})
        index = {name: number for number, name in enumerate(names)}
        failures = self.failures
        return {
            "valid": not failures,
            "failures": failures,
            "varied": dict(self.varied or {}),
            "repeat": self.repeat,
            "wall_seconds": self.run.wall_seconds,
            "summary": _summary(self.run, self.digests, self.server),
            "server": None if self.server is None else dict(self.server),
            "adapters": names,
            "ranks": [self.ranks.get(name) for name in names],
            "largest_rank": max(self.ranks.values(), default=None),
            "warm_up": None if self.warmed is None else _warm_up(self.warmed, self.ranks),
            "requests": _columns(self.run.outcomes, self.digests, index),
            "samples": _samples(self.samples, index),
        }


def result_document(command: str, subject: Mapping[str, object], points: Sequence[Point]) -> dict[str, Any]:
    """The whole result; `comparison` has the medians of each varied value, and their ratios to the first."""
    documents = [point.document() for point in points]
    return {
        "schema": SCHEMA,
        "valid": all(document["valid"] for document in documents),
        "command": command,
        "subject": dict(subject),
        "comparison": compare(documents),
        "points": documents,
    }


def write_result(path: Path, document: Mapping[str, Any]) -> None:
    """Write a result, replacing the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(document, separators=(",", ":")).encode() + b"\n")


def read_result(path: Path, schemas: Collection[str] = (SCHEMA,)) -> dict[str, Any]:
    """Read what `write_result` wrote, or another document of one of `schemas`.

    Raises:
        ResultError: the file is something else.
        OSError: it cannot be read.
    """
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ResultError(f"{path}: no JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in schemas:
        raise ResultError(
            f"{path}: schema: {schema!r}, not {' or '.join(map(repr, schemas))}: another command wrote it"
        )
    assert isinstance(document, dict)
    return document


def compare(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the repeats of each varied value, in the order of the points, and their ratios to the first value's.

    A value has a ratio only where both it and the first have a figure that is not 0, and the first is valid: a server
    that refuses is no yardstick.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault(json.dumps(point["varied"], sort_keys=True), []).append(point)
    rows: list[dict[str, Any]] = []
    for group in groups.values():
        figures = {name: _median([point["summary"][name] for point in group]) for name in FIGURES}
        valid = all(point["valid"] for point in group)
        first: Mapping[str, Any] = rows[0] if rows else {"valid": valid, "medians": figures}
        ratios = {
            name: _ratio(figure, first["medians"][name]) if first["valid"] else None for name, figure in figures.items()
        }
        rows.append(
            {
                "varied": dict(group[0]["varied"]),
                "repeats": len(group),
                "valid": valid,
                "medians": figures,
                "ratios": ratios,
            }
        )
    return rows


FIGURES = (
    "tokens_per_second",
    "requests_per_second",
    "ttft_p50",
    "ttft_p95",
    "ttft_p99",
    "ttft_cold_p50",
    "ttft_cold_p99",
    "ttft_warm_p50",
    "ttft_warm_p99",
    "gap_p50",
    "gap_p99",
    "device_hit_ratio",
)


def _ratio(figure: float | None, to: float | None) -> float | None:
    return figure / to if figure is not None and to else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _summary(run: Run, digests: Mapping[str, str | None], server: Mapping[str, float] | None) -> dict[str, Any]:
    good = [outcome for outcome in run.outcomes if problem(outcome, digests) is None]
    tokens = sum(outcome.completion_tokens for outcome in good)
    known = [outcome for outcome in good if outcome.residency is not None]
    ttft = Distribution.of(outcome.time_to_first_token for outcome in good)
    cold = Distribution.of(outcome.time_to_first_token for outcome in known if outcome.residency != "device")
    warm = Distribution.of(outcome.time_to_first_token for outcome in known if outcome.residency == "device")
    gaps = Distribution.of(gap for outcome in good for gap in outcome.gaps)
    return {
        "requests": len(run.outcomes),
        "good": len(good),
        "tokens": tokens,
        "adapters_used": len({outcome.item.model for outcome in good}),
        "tokens_per_second": tokens / run.wall_seconds,
        "requests_per_second": len(good) / run.wall_seconds,
        "ttft": asdict(ttft),
        "ttft_cold": asdict(cold),
        "ttft_warm": asdict(warm),
        "gap": asdict(gaps),
        "request_seconds": asdict(Distribution.of(outcome.seconds for outcome in good)),
        "sent_late": asdict(Distribution.of(outcome.sent - outcome.scheduled for outcome in run.outcomes)),
        **{f"ttft_{at}": getattr(ttft, at) for at in ("p50", "p95", "p99")},
        **{f"ttft_cold_{at}": getattr(cold, at) for at in ("p50", "p99")},
        **{f"ttft_warm_{at}": getattr(warm, at) for at in ("p50", "p99")},
        **{f"gap_{at}": getattr(gaps, at) for at in ("p50", "p99")},
        "device_hit_ratio": _hit_ratio(known, server),
    }


def _hit_ratio(known: Sequence[Outcome], server: Mapping[str, float] | None) -> float | None:
    """What the answers say where they do, else what the server counted."""
    if known:
        return sum(outcome.residency == "device" for outcome in known) / len(known)
    if server is None or not (lookups := server["device_hits"] + server["device_misses"]):
        return None
    return server["device_hits"] / lookups


def _columns(
    outcomes: Sequence[Outcome], digests: Mapping[str, str | None], index: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "adapter": [index[outcome.item.model] for outcome in outcomes],
        "tenant": [outcome.item.tenant for outcome in outcomes],
        "scheduled": [round(outcome.scheduled, 4) for outcome in outcomes],
        "sent": [round(outcome.sent, 4) for outcome in outcomes],
        "ttft": [round(outcome.time_to_first_token, 4) for outcome in outcomes],
        "seconds": [round(outcome.seconds, 4) for outcome in outcomes],
        "gaps": [[round(gap, 4) for gap in outcome.gaps] for outcome in outcomes],
        "prompt_tokens": [outcome.prompt_tokens for outcome in outcomes],
        "tokens": [outcome.completion_tokens for outcome in outcomes],
        "residency": [outcome.residency for outcome in outcomes],
        "digest": [outcome.digest for outcome in outcomes],
        "problem": [problem(outcome, digests) for outcome in outcomes],
    }


def _warm_up(warmed: Run, ranks: Mapping[str, int]) -> dict[str, Any]:
    """What warmed the server up, by names, and when: in seconds to the start of the measured loop, so below 0."""
    outcomes = warmed.outcomes
    return {
        "adapter": [outcome.item.model for outcome in outcomes],
        "rank": [ranks.get(outcome.item.model) for outcome in outcomes],
        "sent": [round(outcome.sent - warmed.wall_seconds, 4) for outcome in outcomes],
        "prompt_tokens": [outcome.prompt_tokens for outcome in outcomes],
        "tokens": [outcome.completion_tokens for outcome in outcomes],
    }


def _samples(samples: Sequence[Sample], index: Mapping[str, int]) -> dict[str, Any]:
    """Columns, one entry a look. Adapters on the device that the load did not ask are left out of `resident`."""
    gauges = sorted({name for sample in samples for name in sample.scrape.gauges})
    return {
        "at": [round(sample.at, 2) for sample in samples],
        "resident": [sorted(index[n] for n in sample.scrape.resident if n in index) for sample in samples],
        "memory_bytes": [sample.memory_bytes for sample in samples],
        **{name: [sample.scrape.gauges.get(name) for sample in samples] for name in gauges},
    }
