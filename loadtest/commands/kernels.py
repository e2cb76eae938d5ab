"""`python -m loadtest kernels`: the 4-bit linears by themselves, each kernel of this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.subject import machine

if TYPE_CHECKING:
    from server.kernels.speed import Figure

Counts = Annotated[str, typer.Option(help="Rows of a batch, and how many adapters they have: lists such as 1,4,16.")]


def kernels(
    rows: Counts = "1,4,16,512",
    adapters: Counts = "0,1,16",
    threads: Annotated[int, typer.Option(min=1, help="Threads of every kernel.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved passes; medians are reported.")] = 5,
    layers: Annotated[int, typer.Option(min=1, help="Layers of SmolLM2-135M's shape.")] = 30,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file as well, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rather than a table.")] = False,
) -> None:
    """Measure the 4-bit linears of SmolLM2-135M's shape with every kernel, beside the limit of the memory."""
    from server.kernels.native_library import NativeKernelsUnavailable
    from server.kernels.speed import bandwidth, measure

    try:
        figures = measure(_counts(rows), _counts(adapters), threads=threads, repeats=repeats, layers=layers)
    except NativeKernelsUnavailable as error:
        Console(stderr=True).print(f"error: {error.message}", style="red", markup=False)
        raise typer.Exit(1) from error
    speed = bandwidth()
    report = {
        "subject": {"threads": threads, "layers": layers, "repeats": repeats, **machine()},
        "bandwidth_bytes_per_second": speed,
        "figures": [asdict(figure) for figure in figures],
    }
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(report))
    else:
        console = Console(width=None if typer.get_text_stream("stdout").isatty() else 120)
        console.print(_table(figures, speed))


def _table(figures: "list[Figure]", speed: float) -> Table:
    table = Table(title=f"4-bit linears; memory reads {speed / 1e9:.1f} GB/s")
    for name in ("rows", "adapters", "kernel", "ms", "GFLOP/s", "tok/s", "time / limit of memory"):
        table.add_column(name, justify="left" if name == "kernel" else "right")
    for figure in figures:
        table.add_row(
            str(figure.rows),
            str(figure.adapters),
            figure.kernel,
            f"{1000 * figure.seconds:.1f}",
            f"{figure.gflops:.1f}",
            f"{figure.tokens_per_second:.0f}",
            f"{figure.seconds / figure.limit_seconds:.1f}",
        )
    return table


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,4,16") from error
    if min(counts) < 0:
        raise typer.BadParameter(f"{text!r} holds a negative number")
    return counts
