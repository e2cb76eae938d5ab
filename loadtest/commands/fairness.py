"""`python -m loadtest fairness`: what the others feel of one adapter that is asked far more than its share."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtest.adapters import parse_ranks, random_adapters
from loadtest.commands.terminal import FAILURES, announcer, failure, progress, stdout
from loadtest.commands.verdict import conclude, subject_of
from loadtest.experiment import measure_point
from loadtest.hot_adapter import HotAdapter, felt_by_others
from loadtest.options import LoadOptions, with_load_options
from loadtest.own_server import OwnServer
from loadtest.plan import SEEDS_APART, Load
from loadtest.result import Point, result_document
from loadtest.workloads.lengths import parse_lengths

SETTINGS = ("tokens", "none")


@with_load_options
def fairness(
    context: typer.Context,
    options: LoadOptions,
    hot: Annotated[float, typer.Option(min=1, help="How many times its share the hot adapter is asked.")] = 10.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 60.0,
    repeats: Annotated[int, typer.Option(min=1, help="How often each load is measured.")] = 3,
) -> None:
    """Measure an even open-loop load, and the same with one hot adapter, with fair queueing and without it.

    --rate is that of the even load, over all --publish adapters together: choose it so that the server keeps up with it
    and the hot adapter's part on top is too much. --requests, --warm-up and the popularity have no say here.

    [bold]Example[/bold]

    python -m loadtest fairness --publish 8 --ranks 8 --rate 1.5 --output-tokens 16 --out fairness.json -- --max-rows 8
    """
    try:
        if options.url is not None or options.clients is not None or options.trace is not None:
            raise ValueError("fairness starts its own server and sends at --rate: leave --url, --clients, --trace out")
        with progress() as bars, tempfile.TemporaryDirectory(prefix="switchyard-loadtest-") as scratch:
            store = options.store or Path(scratch) / "store"
            server = OwnServer(options.base, store, Path(scratch) / "server.log", context.args, options.cache)
            adapters = random_adapters(options.publish, options.seed, parse_ranks(options.ranks))
            bar = bars.add_task("publishing", total=len(adapters))
            server.prepare(adapters, keep=options.store is not None, on_published=lambda: bars.advance(bar))
            points: list[Point] = []
            for repeat in range(repeats):
                for setting in SETTINGS:
                    for factor in (1.0, hot):
                        load = _load(options, tuple(server.digests), factor, seconds, repeat)
                        with server.serving(("--fairness", setting)) as target:
                            point = measure_point(
                                target,
                                load,
                                varied={"fairness": setting, "hot": factor},
                                repeat=repeat,
                                announce=announcer(bars, f"fairness={setting} hot={factor:g}x "),
                            )
                            points.append(asyncio.run(point))
        document = result_document("fairness", subject_of(options, context.args), points)
        document["felt_by_others"] = felt_by_others(document["points"], next(iter(server.digests)))
    except FAILURES as error:
        raise failure(error) from error
    if not options.as_json:
        stdout.print(table(document["felt_by_others"], hot))
    conclude(document, options)


def _load(options: LoadOptions, names: tuple[str, ...], factor: float, seconds: float, repeat: int) -> Load:
    """Each adapter once to warm up, then the traffic of this repeat."""
    seed = options.seed + SEEDS_APART * repeat
    prompts, outputs = parse_lengths(options.prompt_tokens), parse_lengths(options.output_tokens)
    traffic = HotAdapter(names, float(options.rate or 1.0), factor, prompts, outputs, seed)
    arrivals = tuple(traffic.arrivals(seconds))
    first = {arrival.adapter: arrival for arrival in reversed(arrivals)}
    warm_up = tuple(first.values())
    return Load((*warm_up, *arrivals), len(warm_up), None, (seed,))


def table(rows: list[dict[str, Any]], hot: float) -> Table:
    """What the others feel, for people."""
    felt = Table(title=f"p95 TTFT of the other adapters while one is asked {hot:g} times its share")
    for heading in ("fairness", "even load", "with the hot adapter", "ratio", "repeats"):
        felt.add_column(heading, justify="left" if heading == "fairness" else "right")
    for row in rows:
        figures = ["no result"] * 3
        if row["valid"]:
            figures = [f"{row[name] * 1000:.0f} ms" for name in ("p95_without", "p95_with")] + [f"{row['ratio']:.2f}"]
        felt.add_row(row["fairness"], *figures, str(row["repeats"]))
    return felt
