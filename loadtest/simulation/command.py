"""`python -m loadtest simulate`: which policy and cache size a trace wants, without a server."""

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from adapters_store.atomic_file import replace_file
from loadtest.options import LoadOptions, PopularityName
from loadtest.plan import popularity_of
from loadtest.simulation.budget import parse_budget
from loadtest.simulation.comparison import RealRun, real_run
from loadtest.simulation.contender import NAMES, ContenderName, Trial
from loadtest.simulation.demand import demand_of
from loadtest.simulation.document import Trialled, comparison_table, document, outcomes_table
from loadtest.simulation.outcome import Outcome
from loadtest.simulation.simulated_server import SimulatedServer
from loadtest.trace import read_trace
from loadtest.workloads.arrival_times import Poisson
from loadtest.workloads.lengths import parse_lengths
from loadtest.workloads.traffic import Traffic

SMOLLM2_BYTES_PER_RANK = 610_560
"""Of an fp16 adapter on all linear modules of SmolLM2-135M."""


def simulate(
    trace: Annotated[Path | None, typer.Option(help="A trace of JSON lines; without it, traffic is generated.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Simulate the requests of this result of `run`, and compare with its server.")
    ] = None,
    point: Annotated[int, typer.Option(help="Which point of that result.")] = 0,
    popularity: Annotated[PopularityName, typer.Option(help="Generated: which adapters are asked.")] = (
        PopularityName.ZIPF
    ),
    adapters: Annotated[int, typer.Option(min=1, help="Generated: how many adapters there are.")] = 2000,
    requests: Annotated[int, typer.Option(min=1, help="Generated: how many requests.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Generated: requests a second.")] = 1.0,
    zipf: Annotated[float, typer.Option(help="Generated: the exponent of the popularity.")] = 1.0,
    period: Annotated[float, typer.Option(help="Generated: seconds of a drifting or diurnal round.")] = 86_400.0,
    burst: Annotated[float, typer.Option(help="Generated: seconds of a burst.")] = 600.0,
    prompt_tokens: Annotated[str, typer.Option(help="Generated: lengths of prompts.")] = "64",
    output_tokens: Annotated[str, typer.Option(help="Generated: lengths of answers.")] = "48",
    seed: Annotated[int, typer.Option(help="Generated: the seed of everything.")] = 0,
    ranks: Annotated[
        str | None, typer.Option(help="The adapters' ranks, in turn by name; else 4,8, or those of --compare.")
    ] = None,
    bytes_per_rank: Annotated[int, typer.Option(min=1, help="An adapter's bytes.")] = SMOLLM2_BYTES_PER_RANK,
    sizes: Annotated[Path | None, typer.Option(help="JSON of bytes by adapter name, in the place of ranks.")] = None,
    budget: Annotated[str, typer.Option(help="Device budgets: 16x the largest adapter, 512MiB or bytes.")] = "16x",
    host: Annotated[str, typer.Option(help="Host memory, likewise; 0 keeps none.")] = "1GiB",
    policies: Annotated[str, typer.Option(help=f"Of {', '.join(NAMES)}.")] = "lru,lfu,cost,predicted,belady",
    server: Annotated[
        Path | None, typer.Option(help="JSON of the server's load times, rows and forecasts; see the how-to.")
    ] = None,
    warm_up: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the time that is not counted.")] = 0.0,
    started_at: Annotated[float, typer.Option(help="Unix time of the first request: hours, weekdays.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Write the result to this file as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw hit rates over the budgets into this HTML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Play a trace against a simulated cache under several policies, by the server's own policy code."""
    stdout, stderr = Console(width=None if sys.stdout.isatty() else 150), Console(stderr=True)
    try:
        names = _contenders(policies)
        if compare and warm_up:
            raise ValueError("--warm-up: a result has its own warm-up, and the server's counters begin after it")
        real = real_run(compare, point) if compare else None
        if real is not None:
            arrivals, source = iter(real.arrivals), {"source": str(compare), "point": point}
        elif trace is not None:
            arrivals, source = read_trace(trace), {"source": str(trace)}
        else:
            shape = LoadOptions(popularity=popularity, zipf=zipf, period=period, burst=burst, seed=seed)
            generated = Traffic(
                tuple(f"load-{index:06}" for index in range(adapters)),
                popularity_of(shape, adapters),
                Poisson(rate),
                parse_lengths(prompt_tokens),
                parse_lengths(output_tokens),
                seed=seed,
            )
            arrivals = generated.arrivals(requests=requests)
            source = {"source": popularity.value, "adapters": adapters, "zipf": zipf, "period": period, "rate": rate}
            source |= {"seed": seed}
        demand = demand_of(arrivals)
        asked = sorted(set(demand.keys()))
        by_name = _read_sizes(sizes) if sizes else _sizes_by_rank(asked, ranks, bytes_per_rank, real)
        if missing := [name for name in asked if name not in by_name]:
            raise ValueError(f"{sizes}: lacks the bytes of {missing[0]!r} (and {len(missing) - 1} more)")
        largest = max(by_name.values(), default=1)
        if real is not None and real.largest_rank is not None and not sizes:
            largest = max(largest, real.largest_rank * bytes_per_rank)
        base = _server(server, host_bytes=parse_budget(host, largest))
        servers = [
            msgspec.structs.replace(base, device_bytes=parse_budget(text, largest)) for text in budget.split(",")
        ]
        measured_from = demand.seconds * warm_up if real is None else real.measured_from
        trial = Trial(demand, by_name, started_at, measured_from)
        trialled = _simulate(trial, servers, names, stderr)
    except (ValueError, OSError) as error:
        stderr.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    figures = real.compared(trialled[0].outcome) if real else ()
    source |= {"requests": len(demand), "asked": len(asked), "seconds": demand.seconds, "warm_up": warm_up}
    source |= {"measured_from": measured_from}
    found = document(source, servers[0], largest, trialled, figures)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, json.dumps(found, indent=2).encode() + b"\n")
        stderr.print(f"Wrote {out}")
    if plot is not None:
        _draw(plot, [one.outcome for one in trialled], largest, stderr)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    stdout.print(outcomes_table(trialled, largest))
    if figures:
        stdout.print(comparison_table(figures))


def _simulate(
    trial: Trial, servers: Sequence[SimulatedServer], names: Sequence[ContenderName], console: Console
) -> list[Trialled]:
    trialled = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for server in servers:
            for name in names:
                task = progress.add_task(f"{name}, {server.device_bytes / 2**20:,.0f} MiB", total=len(trial.demand))
                begin = time.perf_counter()
                outcome = trial.simulate(name, server, partial(_show, progress, task))
                trialled.append(Trialled(outcome, time.perf_counter() - begin))
    return trialled


def _draw(path: Path, outcomes: Sequence[Outcome], largest_bytes: int, console: Console) -> None:
    try:
        from loadtest.simulation.curve import curve_page
    except ImportError as error:
        console.print("error: plots need plotly: pip install 'switchyard[loadtest]'", style="red", markup=False)
        raise typer.Exit(1) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, curve_page(outcomes, largest_bytes).encode())
    console.print(f"Wrote {path}")


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _contenders(text: str) -> tuple[ContenderName, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"--policies: {unknown[0]!r} is none of {', '.join(NAMES)}")
    return cast(tuple[ContenderName, ...], names)


def _sizes_by_rank(
    names: Sequence[str], ranks: str | None, bytes_per_rank: int, real: RealRun | None
) -> dict[str, int]:
    in_turn = _parse_ranks(ranks or "4,8")
    if real is None:
        return {name: in_turn[index % len(in_turn)] * bytes_per_rank for index, name in enumerate(names)}
    unknown = [name for name in names if name not in real.ranks]
    if unknown and (ranks is None or len(in_turn) > 1):
        raise ValueError(
            f"--compare: the result does not say the rank of {unknown[0]!r}: give --sizes, or the one of all as --ranks"
        )
    if ranks is not None and not unknown:
        raise ValueError("--ranks: the result says which adapter has which: leave it out, or give --sizes")
    return {name: real.ranks.get(name, in_turn[0]) * bytes_per_rank for name in names}


def _parse_ranks(text: str) -> list[int]:
    try:
        ranks = [int(rank) for rank in text.split(",")]
    except ValueError:
        raise ValueError(f"--ranks: {text!r} is not a list of ranks such as 4,8") from None
    if min(ranks) < 1:
        raise ValueError("--ranks: every rank must be positive")
    return ranks


def _read_sizes(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: {error}") from error


def _server(path: Path | None, *, host_bytes: int) -> SimulatedServer:
    given: dict[str, object] = {}
    if path is not None:
        try:
            given = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
            return msgspec.convert({"device_bytes": 0, "host_bytes": host_bytes} | given, SimulatedServer)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path}: {error}") from error
    return SimulatedServer(device_bytes=0, host_bytes=host_bytes)
