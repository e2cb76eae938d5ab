"""`python -m loadtest`: load a server and report what it did."""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from adapters_store.errors import SwitchyardError
from loadtest.adapters import published_adapters, random_adapters
from loadtest.measurement import WarmUpError, http_client, measure
from loadtest.report import Level, Report
from loadtest.served_adapters import UnsuitableServerError, served_adapters
from loadtest.subject import machine
from loadtest.workload import Workload
from server.commands.server_process import ServerProcess

# The first start of a base on a machine fetches and quantises it.
READY_SECONDS = 900.0
FAILURES = (WarmUpError, UnsuitableServerError, SwitchyardError, httpx.HTTPError)

app = typer.Typer(
    help="Load a server with chat completions over many adapters, and report throughput and latency.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# Where the table goes into a pipe or a file there is no terminal to fit into.
stdout = Console(width=None if sys.stdout.isatty() else 120)
stderr = Console(stderr=True)

Clients = Annotated[str, typer.Option(help="Clients at a time, one level each.")]
Requests = Annotated[int, typer.Option(min=1, help="Requests of each level.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens of every answer.")]
Zipf = Annotated[float, typer.Option(min=0, help="Exponent of the adapters' popularity; 0 is uniform.")]
Seed = Annotated[int, typer.Option(help="Seed of the prompts, the popularity and the random adapters.")]
Out = Annotated[Path | None, typer.Option(help="Write the report to this file as well, as JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON rather than as a table.")]


@app.command()
def run(
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8000",
    adapters: Annotated[int, typer.Option(min=1, help="How many of the server's adapters to ask.")] = 16,
    clients: Clients = "1,4,16",
    requests: Requests = 72,
    max_tokens: MaxTokens = 48,
    zipf: Zipf = 1.0,
    seed: Seed = 0,
    api_key: Annotated[str | None, typer.Option(envvar="SWITCHYARD_API_KEY", help="The server's API key.")] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Load a server that is running, over adapters that it has."""
    levels = client_counts(clients)

    async def load() -> Report:
        async with http_client(url, api_key=api_key) as client:
            digests = await served_adapters(client, adapters)
            workload = Workload(tuple(digests), requests, max_tokens, zipf, seed)
            measured = await measure(client, workload, levels=levels, expected_digests=digests, console=stderr)
        return _report({"url": url}, workload, measured)

    try:
        report = asyncio.run(load())
    except FAILURES as error:
        raise _failure(error) from error
    _conclude(report, out, as_json=as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def baseline(
    context: typer.Context,
    base: Annotated[str, typer.Option(help="The base model to serve.")] = "smollm2-135m",
    adapters: Annotated[int, typer.Option(min=1, help="Random adapters to publish, of ranks 8, 16 and 32.")] = 16,
    clients: Clients = "1,4,16",
    requests: Requests = 72,
    max_tokens: MaxTokens = 48,
    zipf: Zipf = 1.0,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
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
            raise _failure(error) from error
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


def _failure(error: Exception) -> typer.Exit:
    stderr.print(f"error: {str(error) or type(error).__name__}", style="red", markup=False, highlight=False)
    return typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m loadtest")
