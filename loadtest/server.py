"""A real server to measure: `switchyard serve` as a process of its own, on a free loopback port."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx

_POLL_SECONDS = 0.2
_STOP_SECONDS = 30.0
_LOG_LINES = 20


class ServerStartError(Exception):
    """The server ended, or was not ready in time. Its log says why."""


def installed_program() -> tuple[str, ...]:
    """The `switchyard` command of the environment that runs this."""
    return (str(Path(sys.executable).with_name("switchyard")),)


@contextmanager
def running_server(
    base: str,
    store: Path,
    log: Path,
    *,
    flags: Sequence[str] = (),
    ready_seconds: float = 900.0,
    program: Sequence[str] | None = None,
) -> Iterator[str]:
    """Run a server until the block ends and yield its URL once `/ready` answers 200.

    The server writes its log to `log`. The first start of a base may fetch and quantise it, hence the long default.
    `flags` are passed on; `program` is the installed command where it is not given.

    Raises:
        ServerStartError: it ended or was not ready within `ready_seconds`.
    """
    command = [*(program or installed_program()), "serve", "--base", base, "--store", str(store)]
    command += ["--host", "127.0.0.1", "--port", "0", "--json", *flags]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,  # noqa: S603 -- a list, no shell
    ):
        try:
            url = _announced_url(process)
            _wait_until_ready(process, url, ready_seconds)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def end_of(log: Path) -> str:
    """The last lines of a server's log, empty where there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _announced_url(process: subprocess.Popen[bytes]) -> str:
    """The address that the server says it listens on, in its first line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ServerStartError(f"the server ended with status {process.wait()}")
    return str(json.loads(line)["url"])


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, seconds: float) -> None:
    deadline = monotonic() + seconds
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        while monotonic() < deadline:
            if process.poll() is not None:
                raise ServerStartError(f"the server ended with status {process.returncode}")
            try:
                if client.get("/ready").status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            sleep(_POLL_SECONDS)
    raise ServerStartError(f"the server was not ready after {seconds:.0f} s")
