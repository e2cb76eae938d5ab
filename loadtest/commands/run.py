"""`python -m loadtest run`: one load, and its result."""

import typer

from loadtest.campaign import measure_all
from loadtest.commands.terminal import FAILURES, failure, progress
from loadtest.commands.verdict import conclude, subject_of
from loadtest.options import LoadOptions, with_load_options
from loadtest.result import result_document
from loadtest.variations import variations


@with_load_options
def run(context: typer.Context, options: LoadOptions) -> None:
    """Load a server once, and say what it did. What follows -- goes to a server of our own.

    The exit status is 1 where an answer failed, came from another version, or fell back: then there is no result.

    [bold]Examples[/bold]

    python -m loadtest run --publish 200 --ranks 4,8 --cache 16 --clients 16 --out result.json

    python -m loadtest run --rate 4 --popularity drifting --period 120 --requests 500 -- --eviction lru

    python -m loadtest run --url http://127.0.0.1:8000 --adapters 4 --clients 8

    python -m loadtest run --trace BurstGPT_1.csv --requests 2000 --longest-prompt 512 --longest-output 128
    """
    try:
        loads = variations(options)
        if len(loads) > 1:
            raise ValueError("run measures one load: for a list of --clients or --rate take `sweep`")
        with progress() as bars:
            points = measure_all(options, context.args, loads, 1, bars)
    except FAILURES as error:
        raise failure(error) from error
    conclude(result_document("run", subject_of(options, context.args), points), options)
