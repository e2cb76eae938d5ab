"""A real `switchyard serve`, in a process of its own, on a tiny model."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.commands.server_process import ServerProcess

START_SECONDS = 120


@dataclass(frozen=True)
class RealServer:
    """Where it listens, where its store lies, and its process."""

    url: str
    store: Path
    log: Path
    process: ServerProcess

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
            if int(status[1]) == self.process.process_id and b"server.engine.process" in command:
                return int(directory.name)
        raise AssertionError("the server has no engine process")

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


@contextmanager
def serving(base: Path, directory: Path, **settings: object) -> Iterator[RealServer]:
    """Serve `base` with its store and cache below `directory`; `settings` are those of `server.config`."""
    store, log = directory / "store", directory / "server.log"
    values = {
        "base": base,
        "store": store,
        "cache_dir": directory / "cache",
        "kv_cache_bytes": 4 << 20,
        "threads": 1,
        "max_rows": 16,
        "adapter_budget_bytes": 8 << 20,
    } | settings
    flags = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with ServerProcess(flags, log=log) as process:
        process.wait_until_ready(START_SECONDS)
        yield RealServer(process.url, store, log, process)
