"""Every panel and every rule has data from a real Prometheus that scrapes a real server under load."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from adapters_store import AdapterStore, parse_adapter_name
from tests.deployment.prometheus import Prometheus, holds_within, scraping
from tests.deployment.queries import dashboard_expressions, recordings
from tests.http.client import body
from tests.http.real_server import RealServer, serving
from tests.lora_adapters import write_lora
from tests.tiny_models import write_tiny_model

LOAD_SECONDS = 8.0
CLIENTS = 6
ADAPTERS = 6
ADAPTERS_THAT_FIT = 2
EXPECTED_ALERTS = {"SwitchyardFallbacks", "SwitchyardRefusals", "SwitchyardLoadFailures"}
ALERT_SECONDS = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen a server load and evict adapters, answer, refuse, fall back and drop requests."""
    directory = tmp_path_factory.mktemp("prometheus")
    base = write_tiny_model("llama", directory / "base")
    made = write_lora(base, directory / "measured", seed=0)
    size = (made / "adapter_model.safetensors").stat().st_size
    with (
        serving(base, directory, adapter_budget_bytes=ADAPTERS_THAT_FIT * size, kv_cache_bytes=1 << 19) as server,
        scraping(server.url, directory) as running,
    ):
        names = _published(server, base, directory)
        asyncio.run(_load(server, names))
        # Until the rules have been evaluated over the whole load, which takes longer on a busy machine.
        holds_within(ALERT_SECONDS, lambda: running.firing() >= EXPECTED_ALERTS)
        yield running


def _published(server: RealServer, base: Path, directory: Path) -> list[str]:
    store = AdapterStore(server.store)
    names = [f"adapter-{number}" for number in range(ADAPTERS)]
    for number, name in enumerate(names):
        store.publish(parse_adapter_name(name), write_lora(base, directory / name, seed=number))
    rotten = store.publish(parse_adapter_name("rotten"), write_lora(base, directory / "rotten", seed=99)).version
    weights = Path(rotten.directory) / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-64])
    return names


async def _load(server: RealServer, names: list[str]) -> None:
    end = time.monotonic() + LOAD_SECONDS
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(number: int) -> None:
            turn = 0
            while time.monotonic() < end:
                turn += 1
                name = names[(number + turn) % len(names)]
                (await client.post("/v1/completions", json=body(name, max_tokens=24))).raise_for_status()

        async def err() -> None:
            while time.monotonic() < end:
                await client.post("/v1/completions", json=body("rotten", fallback="base"))
                await client.post("/v1/completions", json=body("rotten"))
                await client.post("/v1/completions", json=body("base", temperature=9))
                await asyncio.sleep(0.5)

        await asyncio.gather(*(ask(number) for number in range(CLIENTS)), err())


def test_every_query_of_the_dashboard_has_data(prometheus: Prometheus) -> None:
    empty = [expression for expression in dashboard_expressions() if not prometheus.has_data(expression)]
    assert empty == []


def test_every_recorded_series_is_there(prometheus: Prometheus) -> None:
    empty = [name for name in recordings() if not prometheus.has_data(name)]
    assert empty == []


def test_no_rule_fails(prometheus: Prometheus) -> None:
    assert prometheus.rule_errors() == {}


def test_alerts_fire_for_what_was_broken_on_purpose(prometheus: Prometheus) -> None:
    firing = prometheus.firing()
    assert firing >= EXPECTED_ALERTS
    assert firing <= EXPECTED_ALERTS | {"SwitchyardKvShort"}
