"""`python -m loadtest sweep`: one load with another value each time, side by side."""

from typing import Annotated

import typer

from loadtest.campaign import measure_all
from loadtest.commands.terminal import FAILURES, failure, progress
from loadtest.commands.verdict import conclude, subject_of
from loadtest.options import LoadOptions, with_load_options
from loadtest.result import result_document
from loadtest.variations import variations


@with_load_options
def sweep(
    context: typer.Context,
    options: LoadOptions,
    working_set: Annotated[
        str | None, typer.Option(help="Adapters asked: numbers, or multiples of --cache as 1x,2x,4x.")
    ] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="A setting of the server and its values, as window_ms=0,10,25.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each load is measured.")] = 1,
) -> None:
    """Measure a load for every value of a list: --working-set, --clients, --rate, or a setting with --vary.

    With several lists every combination is measured. Repeats are interleaved, and the result has the medians and their
    ratios to the first. A server of our own is started anew for each load.

    [bold]Examples[/bold]

    python -m loadtest sweep --publish 256 --ranks 4,8 --cache 16 --working-set 1x,2x,4x,16x --out cliff.json

    python -m loadtest sweep --rate 1,2,4,8 --out load.json

    python -m loadtest sweep --vary window_ms=0,10,25,50 --clients 2,8,32 --repeats 3 --out window.json
    """
    try:
        loads = variations(options, working_set, vary or ())
        with progress() as bars:
            points = measure_all(options, context.args, loads, repeats, bars)
    except FAILURES as error:
        raise failure(error) from error
    conclude(result_document("sweep", subject_of(options, context.args), points), options)
