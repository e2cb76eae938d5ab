"""A real `switchyard serve`, in a process of its own, on a tiny model."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 120


@dataclass(frozen=True)
class RealServer:
    """Where it listens, where its store lies, and its process."""

    url: str
    store: Path
    log: Path
    process: subprocess.Popen[bytes]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of one metric that have these labels."""
        return sum(value for found, value in self.samples(name) if labels.items() <= found.items())

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Every sample of one metric."""
        from prometheus_client.parser import text_string_to_metric_families

        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        return [
            (sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name
        ]

    def engine_process(self) -> int:
        """The process id of the engine: the server's one child that runs `server.engine.process`."""
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                status = (directory / "stat").read_text().rsplit(")", 1)[1].split()
                command = (directory / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status[1]) == self.process.pid and b"server.engine.process" in command:
                return int(directory.name)
        raise AssertionError("the server has no engine process")

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for `/ready`, or fail with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ready", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server never was ready:\n{self.log.read_text()[-4000:]}")

    def wait_idle(self, seconds: float = 60) -> None:
        """Wait until no request, block or pin is left, or fail."""
        deadline = time.monotonic() + seconds
        left: dict[str, float] = {}
        while time.monotonic() < deadline:
            left = {
                name: self.metric(name)
                for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
            }
            pinned = self.metric("vllm:lora_adapter_loaded", pinned="true")
            if not any(left.values()) and not pinned:
                return
            time.sleep(0.1)
        raise AssertionError(f"still held: {left}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(base: Path, directory: Path, **settings: object) -> Iterator[RealServer]:
    """Serve `base` with its store and cache below `directory`; `settings` are those of `server.config`."""
    port = free_port()
    store, log = directory / "store", directory / "server.log"
    values = {"kv_cache_bytes": 4 << 20, "threads": 1, "max_rows": 16, "adapter_budget_bytes": 8 << 20} | settings
    environment = os.environ | {f"SWITCHYARD_{name.upper()}": str(value) for name, value in values.items()}
    command = [sys.executable, "-m", "server.cli", "serve", "--base", str(base), "--store", str(store)]
    command += ["--cache-dir", str(directory / "cache"), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    server = RealServer(f"http://127.0.0.1:{port}", store, log, process)
    try:
        server.wait_ready()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
