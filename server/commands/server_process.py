"""A `switchyard serve` of one's own, on a loopback port: for the demo, the load test and the tests."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from server.errors import EngineUnavailable

__all__ = ["ServerProcess"]

_POLL_SECONDS = 0.1
_STOP_SECONDS = 30.0
_LOG_LINES = 12


class ServerProcess:
    """`switchyard serve` with `flags` as a child process; leaving the context ends it, whatever happened.

    It takes a free port unless the flags name one. Its log goes to `log`; `url` is known inside the context.
    `program` is the command, this environment's own where it is not given.

    Raises:
        EngineUnavailable: on entry, if it ended at once; the message has the end of its log.
    """

    def __init__(self, flags: Sequence[str], *, log: Path, program: Sequence[str] | None = None) -> None:
        own = (sys.executable, "-P", "-m", "server.cli")
        self._command = [*(program or own), "serve", "--json", "--host", "127.0.0.1", "--port", "0", *flags]
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603
        try:
            assert self._process.stdout is not None
            announced = self._process.stdout.readline()
            if not announced:
                raise self._ended(self._process)
            self.url = json.loads(announced)["url"]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def process_id(self) -> int:
        """The id of the running server process."""
        assert self._process is not None
        return self._process.pid

    def wait(self, timeout: float) -> int:
        """Wait for the server to end by itself; its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        assert self._process is not None
        return self._process.wait(timeout)

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until `/ready` answers 200, for at most `timeout` seconds.

        Raises:
            EngineUnavailable: the server ended or is still not ready; the message has the end of its log.
        """
        assert self._process is not None
        deadline = time.monotonic() + timeout
        with httpx.Client(trust_env=False) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise self._ended(self._process)
                try:
                    if client.get(f"{self.url}/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(_POLL_SECONDS)
        raise EngineUnavailable(f"the server is not ready after {timeout:.0f} s; its log ends:\n{self._log_end()}")

    def _ended(self, process: subprocess.Popen[str]) -> EngineUnavailable:
        status = process.wait()
        return EngineUnavailable(f"the server ended with status {status}; its log ends:\n{self._log_end()}")

    def _log_end(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:]) or "(nothing was logged)"

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
