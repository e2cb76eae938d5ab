"""A real server on a loopback port, for the time of a demo."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from server.demo.base import QUANTIZATION
from server.errors import EngineUnavailable

__all__ = ["ServerProcess"]

_POLL_SECONDS = 0.1
_STOP_SECONDS = 20.0
_LOG_LINES = 8


class ServerProcess:
    """`switchyard serve` as a child process; leaving the context ends it, whatever happened.

    Its log goes to `log`. `url` is known inside the context.
    """

    def __init__(self, *, base: str, store: Path, cache_dir: Path, port: int, log: Path) -> None:
        self._command = [sys.executable, "-m", "server.cli", "serve", "--json", "--host", "127.0.0.1"]
        self._command += ["--port", str(port), "--base", base, "--quantization", QUANTIZATION]
        self._command += ["--store", str(store), "--cache-dir", str(cache_dir)]
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
