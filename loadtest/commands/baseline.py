"""`python -m loadtest baseline`: the quick figures of `make bench`."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from loadtest.adapters import published_adapters, random_adapters
from loadtest.commands.terminal import FAILURES, failure, stderr, stdout
from loadtest.measurement import http_client, measure
from loadtest.own_server import READY_SECONDS
from loadtest.report import Level, Report
from loadtest.subject import machine
from loadtest.workload import Workload
from server.commands.server_process import ServerProcess


def baseline(
    context: typer.Context,
    base: Annotated[str, typer.Option(help="The base model to serve.")] = "smollm2-135m",
    adapters: Annotated[int, typer.Option(min=1, help="Random adapters to publish, of ranks 8, 16 and 32.")] = 16,
    clients: Annotated[str, typer.Option(help="Clients at a time, one level each.")] = "1,4,16",
    requests: Annotated[int, typer.Option(min=1, help="Requests of each level.")] = 72,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of every answer.")] = 48,
    zipf: Annotated[float, typer.Option(min=0, help="Exponent of the adapters' popularity; 0 is uniform.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the prompts, the popularity and the random adapters.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file as well, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON rather than as a table.")] = False,
) -> None:
    """Start a server of our own over random adapters, and load it. What follows `--` goes to `switchyard serve`."""
    levels = client_counts(clients)
    with tempfile.TemporaryDirectory(prefix="switchyard-loadtest-") as scratch:
        store, log = Path(scratch) / "store", Path(scratch) / "server.log"
        try:
            stderr.print(f"Starting a server for {base}; its first start here fetches and quantises the base")
            with ServerProcess(["--base", base, "--store", str(store), *context.args], log=log) as server:
                server.wait_until_ready(READY_SECONDS)
                stderr.print(f"Publishing {adapters} random adapters")
                digests = published_adapters(store, random_adapters(adapters, seed))
                workload = Workload(tuple(digests), requests, max_tokens, zipf, seed)
                measured = asyncio.run(_load(server.url, workload, levels, digests))
        except FAILURES as error:
            raise failure(error) from error
    _conclude(_report({"base": base, "server_flags": context.args}, workload, measured), out, as_json=as_json)


def client_counts(text: str) -> tuple[int, ...]:
    """Parse a list of numbers of clients, such as `1,4,16`.

    Raises:
        typer.BadParameter: the text is not a list of positive numbers.
    """
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,4,16", param_hint="--clients") from error
    if min(counts) < 1:
        raise typer.BadParameter("every number of clients must be positive", param_hint="--clients")
    return counts


async def _load(url: str, workload: Workload, levels: tuple[int, ...], digests: Mapping[str, str]) -> tuple[Level, ...]:
    async with http_client(url) as client:
        return await measure(client, workload, levels=levels, expected_digests=digests, console=stderr)


def _report(target: Mapping[str, object], workload: Workload, levels: tuple[Level, ...]) -> Report:
    asked = {
        "adapters": len(workload.adapters),
        "max_tokens": workload.max_tokens,
        "zipf": workload.zipf,
        "seed": workload.seed,
    }
    return Report({**target, **asked, **machine()}, levels)


def _conclude(report: Report, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        report.write(out)
        stderr.print(f"Wrote {out}")
    if as_json:
        typer.echo(report.to_json())
    else:
        stdout.print(report.table())
    if not report.valid:
        stderr.print("Some answers failed or came from another version: these figures are no result.")
        raise typer.Exit(1)
