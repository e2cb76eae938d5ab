"""The `switchyard` command. It imports no torch; the engine does, in its own process."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from server.commands import adapters, tasks
from server.commands.output import Output
from server.commands.setting_flags import settings_from, with_setting_flags
from server.config import Settings
from server.errors import SwitchyardError

app = typer.Typer(
    name="switchyard",
    help="A multi-adapter inference server: one resident 4-bit base model, many adapters, one batch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
)
app.add_typer(adapters.app, name="adapters")
app.add_typer(tasks.app, name="tasks")

Json = Annotated[bool, typer.Option("--json", help="Write results as JSON.")]

_SERVE_HELP = """Serve a base model and the adapters of a store over the OpenAI API.

Every flag is also a variable, SWITCHYARD_ and the flag's name; the flag wins. The server listens at once, and takes
requests when /ready answers 200. SIGTERM ends it gracefully.

\b
Examples:
  switchyard serve
  switchyard serve --base Qwen/Qwen3-0.6B --store /srv/adapters --port 8080
  switchyard serve --base ./checkpoint --quantization none --numerics exact
  SWITCHYARD_API_KEY=... switchyard serve --host 0.0.0.0
"""


def _refuse_key(value: str | None) -> None:
    if value is not None:
        raise typer.BadParameter("a key is in no flag, where others see it: set SWITCHYARD_API_KEY instead")


NoKey = Annotated[str | None, typer.Option("--api-key", hidden=True, callback=_refuse_key)]


def _serve(*, as_json: Json = False, api_key: NoKey = None, **flags: Any) -> None:
    assert api_key is None
    settings = settings_from(flags)
    from server.commands.serve import run_server

    run_server(settings, Output(as_json=as_json))


app.command("serve", help=_SERVE_HELP)(with_setting_flags(_serve))


def _doctor(*, as_json: Json = False, **flags: Any) -> None:
    settings = settings_from(flags)
    from server.commands.doctor import run_doctor

    run_doctor(settings, Output(as_json=as_json))


app.command("doctor", help="Say what this machine has, and which kernels would compute on it under these settings.")(
    with_setting_flags(_doctor)
)


@app.command()
def demo(
    cache_dir: Annotated[
        Path | None, typer.Option(envvar="SWITCHYARD_CACHE_DIR", help="Where the base model is kept.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the demo's server; 0 takes a free one.")] = 0,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions for each adapter.")] = 24,
    as_json: Json = False,
) -> None:
    """Ask the base and several adapters at once, on a real model, and show who answered what."""
    from server.demo.command import run_demo

    folder = cache_dir or Settings.model_fields["cache_dir"].get_default(call_default_factory=True, validated_data={})
    raise typer.Exit(run_demo(cache_dir=folder, port=port, questions=questions, json_output=as_json))


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if version:
        from server.api.release import release

        sys.stdout.write(f"switchyard {release()}\n")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Ends the process with 0, with 1 and one line on stderr, or with 2 for a wrong usage."""
    try:
        app(args=arguments)
    except SwitchyardError as error:
        sys.stderr.write(f"error: {' '.join(error.message.split())}\n")
        raise SystemExit(1) from None
    except OSError as error:
        place = f": {error.filename}" if error.filename is not None else ""
        sys.stderr.write(f"error: {error.strerror or error}{place}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
