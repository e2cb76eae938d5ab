"""`python -m loadtest`: load a server and report what it did."""

import typer

from loadtest.commands.baseline import baseline
from loadtest.commands.fairness import fairness
from loadtest.commands.kernels import kernels
from loadtest.commands.report import report
from loadtest.commands.run import run
from loadtest.commands.sweep import sweep
from loadtest.load_times import loads
from loadtest.simulation.command import simulate

# What follows `--` goes to `switchyard serve`.
_WITH_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="Load a server with chat completions over many adapters, and report throughput and latency.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command(context_settings=_WITH_FLAGS)(run)
app.command(context_settings=_WITH_FLAGS)(sweep)
app.command(context_settings=_WITH_FLAGS)(fairness)
app.command()(kernels)
app.command()(report)
app.command()(simulate)
app.command(context_settings=_WITH_FLAGS)(baseline)
app.command()(loads)

if __name__ == "__main__":
    app(prog_name="python -m loadtest")
