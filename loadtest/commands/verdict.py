"""The end of a measurement: the result is written and printed, and refused where an answer was not as asked."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import typer
from rich.table import Table

from loadtest.commands.terminal import stderr, stdout
from loadtest.options import LoadOptions
from loadtest.result import write_result
from loadtest.subject import machine

_SECRET = {"api_key", "out", "as_json"}


def subject_of(options: LoadOptions, flags: Sequence[str]) -> dict[str, Any]:
    """What was measured, on what. The API key is left out."""
    asked = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in _SECRET}
    asked |= {"requests": options.measured_requests, "warm_up": options.warm_up_requests}
    plain = (int, float, str, type(None))
    shown = {name: value if isinstance(value, plain) else str(value) for name, value in asked.items()}
    return {"options": shown, "server_flags": list(flags), "machine": machine()}


def conclude(document: Mapping[str, Any], options: LoadOptions) -> None:
    """Write and print a result.

    Raises:
        typer.Exit: it is none; the status is 1.
    """
    if options.out is not None:
        write_result(options.out, document)
        stderr.print(f"Wrote {options.out}; `python -m loadtest report {options.out}` makes a page of it")
    if options.as_json:
        typer.echo(json.dumps(document))
    else:
        stdout.print(_table(document))
    if not document["valid"]:
        failures: Counter[str] = Counter()
        for point in document["points"]:
            failures.update(point["failures"])
        reasons = "; ".join(f"{count} x {kind}" for kind, count in failures.items())
        stderr.print(f"Some answers failed or came from another version: these figures are no result. {reasons}")
        raise typer.Exit(1)


def _table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Load test" if document["valid"] else "Load test: NOT A RESULT, see the failures")
    table.add_column("load")
    for heading in ("tok/s", "TTFT p50", "p99", "cold p99", "warm p99", "gap p50", "p99", "hits", "to the first"):
        table.add_column(heading, justify="right")
    for row in document["comparison"]:
        figures, valid = row["medians"], row["valid"]
        table.add_row(
            " ".join(f"{name}={value}" for name, value in row["varied"].items()) or "-",
            *(
                (
                    f"{figures['tokens_per_second']:.1f}",
                    *(_milliseconds(figures[name]) for name in ("ttft_p50", "ttft_p99", "ttft_cold_p99")),
                    *(_milliseconds(figures[name]) for name in ("ttft_warm_p99", "gap_p50", "gap_p99")),
                    "-" if figures["device_hit_ratio"] is None else f"{figures['device_hit_ratio']:.0%}",
                    "-" if (ratio := row["ratios"]["tokens_per_second"]) is None else f"{ratio:.2f}",
                )
                if valid
                else ("no result",) * 9
            ),
        )
    return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
