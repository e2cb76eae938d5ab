"""`python -m loadtest report`: results as one page."""

from pathlib import Path
from typing import Annotated

import typer

from adapters_store.atomic_file import replace_file
from loadtest.commands.terminal import FAILURES, failure, stderr
from loadtest.result import SCHEMA, read_result
from loadtest.simulation.document import SCHEMA as SIMULATION


def report(
    results: Annotated[list[Path], typer.Argument(help="What run, sweep, fairness or simulate wrote with --out.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("loadtest.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Load test",
    slo_ttft: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds that a first token may take, for the goodput.")
    ] = 1.0,
    slo_itl: Annotated[float, typer.Option(min=0, max=60, help="Seconds that the time between tokens may take.")] = 0.2,
) -> None:
    """Write results as one HTML page with plots, which needs nothing else and can be sent to others.

    [bold]Examples[/bold]

    python -m loadtest report result.json

    python -m loadtest report simulated.json --out sizes.html

    python -m loadtest report lru.json predicted.json --title "LRU and predicted" --slo-ttft 0.5 --out compared.html
    """
    try:
        from loadtest.page.page import render
        from loadtest.page.sections import Slo
    except ImportError as error:
        raise failure(ValueError("plots need plotly: pip install 'switchyard[loadtest]'")) from error
    try:
        found = [(path.stem, read_result(path, (SCHEMA, SIMULATION))) for path in results]
        measured = [one for one in found if one[1]["schema"] == SCHEMA]
        simulations = [one for one in found if one[1]["schema"] == SIMULATION]
        page = render(measured, Slo(slo_ttft, slo_itl), title, simulations=simulations)
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page.encode())
    except FAILURES as error:
        raise failure(error) from error
    stderr.print(f"Wrote {out}")
