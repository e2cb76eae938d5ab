"""A real Prometheus that scrapes one server each second, with the rules of `deploy/prometheus`."""

import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deployment.queries import RULES

_START_SECONDS = 30.0


@dataclass(frozen=True)
class Prometheus:
    """Where it listens."""

    url: str

    def query(self, expression: str) -> list[float]:
        """The value of each series that an expression gives now; NaN is what a ratio of nothing to nothing gives."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", f"{expression}\n{answer}"
        return [float(series["value"][1]) for series in answer["data"]["result"]]

    def has_data(self, expression: str) -> bool:
        """Does an expression give any number?"""
        return any(not math.isnan(value) for value in self.query(expression))

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def rule_errors(self) -> dict[str, str]:
        """The rules whose last evaluation failed, with the reason."""
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
        return {
            rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"
        }


@contextmanager
def scraping(server_url: str, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus below `directory`; skip the test where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{RULES}/*.yml']\n"
        "scrape_configs:\n"
        "  - job_name: switchyard\n"
        f"    static_configs: [{{targets: ['{server_url.removeprefix('http://')}']}}]\n"
    )
    address = f"127.0.0.1:{_free_port()}"
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'prometheus-data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = directory / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_until_ready(f"http://{address}", process, log)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    holds_within(_START_SECONDS, lambda: process.poll() is not None or _is_ready(url))
    assert _is_ready(url), f"prometheus is not ready: {log.read_text()[-2000:]}"


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, as long as that; whether it does."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
