"""`switchyard demo`: a real server, real adapters, and a client that asks them all at once."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from adapters_store import AdapterStore, Publication, parse_adapter_name
from server.commands.server_process import ServerProcess
from server.config import Settings
from server.demo.base import BASE, QUANTIZATION, is_prepared
from server.errors import BaseModelError, ConfigurationError

__all__ = ["ADAPTERS", "run_demo"]

ADAPTERS = Path(__file__).parent / "adapters"

_READY_SECONDS = 600.0
# The report is made for this many columns; a wider terminal does not stretch it.
_WIDTH = 80


def run_demo(*, cache_dir: Path, port: int, questions: int, json_output: bool) -> int:
    """Show several adapters answering in one batch, on stdout; progress goes to stderr.

    `questions` held-out questions go to the base and to each adapter; `port` 0 takes a free one. Returns 0, or 1
    where a request failed, an answer came from another version than it should, or an adapter did not beat the base.

    Raises:
        ConfigurationError: the extra `demo` is not installed.
        BaseModelError: the base model cannot be fetched or converted.
        EngineUnavailable: the server does not start.
    """
    _require_extra()
    from server.demo import screen
    from server.demo.dates import DATE_TASKS
    from server.demo.experiment import conduct

    stdout, stderr = _stdout(), Console(stderr=True)
    cache_dir = cache_dir.expanduser().resolve()
    if not is_prepared(cache_dir):
        _prepare(cache_dir)
    folder = cache_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    store, log = folder / "store", folder / "server.log"
    flags = ["--base", BASE, "--quantization", QUANTIZATION, "--port", str(port)]
    flags += ["--store", str(store), "--cache-dir", str(cache_dir)]
    with ServerProcess(flags, log=log) as server:
        with stderr.status(f"Starting the server (log: {log})"):
            server.wait_until_ready(_READY_SECONDS)
        ready_seconds = time.monotonic() - start
        publications = _publish(store, [task.adapter for task in DATE_TASKS])
        if not json_output:
            screen.show_start(stdout, BASE, server.url, ready_seconds, publications)
        with _counted(stderr, (1 + len(publications)) * questions) as on_answer:
            report = asyncio.run(
                conduct(
                    server.url,
                    publications,
                    questions=questions,
                    api_key=_api_key(),
                    ready_seconds=ready_seconds,
                    on_answer=on_answer,
                )
            )
    if json_output:
        sys.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
    else:
        screen.show_report(stdout, report)
        screen.show_next_commands(stdout, _own_command(), store, ADAPTERS / DATE_TASKS[0].adapter)
    return 0 if report.passed else 1


def _require_extra() -> None:
    missing = [name for name in ("babel", "openai") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo needs {' and '.join(missing)}: install the extra with pip install 'switchyard[demo]'"
        )


def _prepare(cache_dir: Path) -> None:
    """Fetch and convert the base in a process of its own, whose progress the user sees."""
    ended = subprocess.run([sys.executable, "-m", "server.demo.prepare", str(cache_dir)], check=False)  # noqa: S603
    if ended.returncode != 0:
        raise BaseModelError(f"the demo's base model {BASE} could not be prepared; the reason is above")


def _publish(store: Path, names: list[str]) -> tuple[Publication, ...]:
    """Publish the demo's adapters into the store of the running server, which sees them without a restart."""
    adapters = AdapterStore(store)
    return tuple(adapters.publish(parse_adapter_name(name), ADAPTERS / name) for name in names)


@contextmanager
def _counted(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """A bar over `total` answers; on anything but a terminal nothing, since the report follows."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Asking the base and all adapters at once", total=total)
        yield lambda: progress.advance(task)


def _api_key() -> str | None:
    """The key that the demo's server has, too, if the environment sets one."""
    key = Settings(host="127.0.0.1").api_key
    return key.get_secret_value() if key is not None else None


def _stdout() -> Console:
    console = Console(highlight=False)
    return Console(highlight=False, width=min(console.width, _WIDTH))


def _own_command() -> str:
    """How the user can call `switchyard` from here."""
    beside = Path(sys.executable).parent / "switchyard"
    if beside.is_relative_to(Path.cwd()):
        return str(beside.relative_to(Path.cwd()))
    return "switchyard"
