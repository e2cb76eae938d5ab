"""Minutes of everything at once: a server that is hurt in many ways ends every request properly and leaks nothing."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters_store import AdapterStore
from adapters_store.verification import verify
from tests.http.client import body
from tests.http.real_server import RealServer, serving
from tests.soak.disturbances import READY_SECONDS, Disturbances
from tests.soak.ledger import MOST_WRONG, Ledger
from tests.soak.process_watch import Holding, MiB, children, growth, holding
from tests.soak.traffic import REQUEST_SECONDS, Traffic
from tests.tiny_models import write_tiny_model

SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
NAMES = 200
CLIENTS = 24
REPORT_SECONDS = 30.0
MAX_QUEUE = 32
MAX_ROWS = 8

RESIDENT_GROWTH = 1.15
RESIDENT_SLACK = 24 * MiB
"""Memory is flat where the median of the last third of samples is at most this much above that of the first."""

ENGINE_DOWN = "503 engine_unavailable"
RETRY_SECONDS = 0.5
"""How long a client waits that was told that the engine is not there."""

DESCRIPTOR_SLACK = 8
MOST_THREADS = 64
"""The API process's pools (40 threads for blocking calls, 6 of the event loop's own) and what it has beside them."""

LATENCY_GROWTH = 3.0
LATENCY_SLACK = 0.25

SETTINGS: dict[str, object] = {
    "adapter_budget_bytes": 1 << 20,
    "host_cache_bytes": 4 << 20,
    "kv_cache_bytes": 1 << 20,
    "max_rows": MAX_ROWS,
    "max_queue": MAX_QUEUE,
    "max_model_len": 320,
    "max_body_bytes": 65536,
    "adapter_wait_timeout": 6,
    "engine_stall_timeout": 9,
    "engine_restart_limit": 100_000,
    "log_level": "warning",
}


@dataclass
class Watch:
    """What was seen of the server's processes; `engine` only of the second half, in which no engine is killed."""

    api: list[Holding] = field(default_factory=list)
    engine: list[Holding] = field(default_factory=list)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def read_metrics(server: RealServer) -> dict[str, float]:
    """The sums of all metrics at one moment; an engine that is not ready has no gauges."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics", timeout=60).text):
        for sample in family.samples:
            status = sample.labels.get("status", "")
            values[sample.name + status] = values.get(sample.name + status, 0) + sample.value
    return values


def judge_gauges(server: RealServer, ledger: Ledger) -> dict[str, float]:
    """Hold what the server says of itself against the bounds of every moment, and return it."""
    now = read_metrics(server)
    for held, bound in (
        ("switchyard_adapter_bytes", "switchyard_adapter_budget_bytes"),
        ("switchyard_adapter_host_bytes", "switchyard_adapter_host_budget_bytes"),
        ("switchyard_kv_blocks_used", "switchyard_kv_blocks"),
    ):
        if held in now:
            ledger.must(now[held] <= now[bound], f"{held} is {now[held]:g}, beyond {bound}, {now[bound]:g}")
    ledger.must(now.get("switchyard_requests_running", 0) <= MAX_ROWS, "more rows than max_rows")
    ledger.must(now.get("switchyard_requests_waiting", 0) <= MAX_QUEUE + MAX_ROWS, "more waiting than max_queue")
    failed = now.get("switchyard_http_responses_total500", 0)
    ledger.must(failed == 0, f"{failed:g} answers were 500")
    return now


async def watch(server: RealServer, ledger: Ledger, seen: Watch, calm_at: float, end: float) -> None:
    said = begun = time.monotonic()
    told = 0
    while time.monotonic() < end and len(ledger.wrong) < MOST_WRONG:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(judge_gauges, server, ledger)
        for wrong in ledger.wrong[told:]:
            say(f"wrong: {wrong}")
        told = len(ledger.wrong)
        api = holding(server.process.process_id)
        assert api is not None, "the server has ended"
        seen.api.append(api)
        if time.monotonic() > calm_at and (engine := await asyncio.to_thread(_engine, server)) is not None:
            seen.engine.append(engine)
        if time.monotonic() - said >= REPORT_SECONDS:
            said = time.monotonic()
            answered, done = ledger.outcomes["200"], sum(ledger.outcomes.values())
            say(f"{said - begun:5.0f} s: {done} requests, {answered} answered, {len(ledger.wrong)} wrong; API {api}")


def _engine(server: RealServer) -> Holding | None:
    try:
        return holding(server.engine_process())
    except AssertionError:
        return None


async def soak(server: RealServer, ledger: Ledger, seen: Watch) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=server.url, timeout=REQUEST_SECONDS, limits=limits) as client:
        names = [f"steady-{number:03}" for number in range(NAMES)]
        traffic = Traffic(client, ledger, names, SEED)
        await traffic.probe()
        disturb = Disturbances(server, client, traffic, ledger, SEED)
        for name in names:
            disturb.publish_now(name)
        begun = time.monotonic()
        end = begun + 60 * SOAK_MINUTES
        calm_at = begun + 30 * SOAK_MINUTES

        def over() -> bool:
            return time.monotonic() > end or len(ledger.wrong) >= MOST_WRONG

        def calm() -> bool:
            return time.monotonic() > calm_at or over()

        async def client_of_its_own() -> None:
            while not over():
                down = ledger.outcomes[ENGINE_DOWN]
                await traffic.ask()
                await asyncio.sleep(RETRY_SECONDS if ledger.outcomes[ENGINE_DOWN] > down else 0)

        await asyncio.gather(
            watch(server, ledger, seen, calm_at + 15, end),
            *(client_of_its_own() for _ in range(CLIENTS)),
            disturb.every(1.0, disturb.publish_to_the_store, over),
            disturb.every(2.0, disturb.upload, over),
            disturb.every(20.0, disturb.push_by_command, over),
            disturb.every(1.5, disturb.move_an_alias, over),
            disturb.every(1.0, disturb.publish_use_and_delete, over),
            disturb.every(4.0, disturb.rot, over),
            disturb.every(5.0, disturb.ask_for_what_cannot_fit, over),
            disturb.every(15.0, disturb.crowd, over),
            disturb.every(20.0, disturb.end_the_engine, calm),
        )


def healthy_seconds(server: RealServer) -> float:
    """The median time of a request to the base on an idle server."""
    times = []
    for _ in range(15):
        begun = time.monotonic()
        answer = httpx.post(f"{server.url}/v1/completions", json=body("base"), timeout=REQUEST_SECONDS)
        assert answer.status_code == 200, answer.text
        times.append(time.monotonic() - begun)
    return sorted(times)[len(times) // 2]


def judge_store(server: RealServer, ledger: Ledger) -> None:
    """Nothing is at fault but what was damaged on purpose."""
    damaged = {digest.removeprefix("sha256:") for digest in ledger.damaged}
    for finding in verify(AdapterStore(server.store)).findings:
        if finding.is_fault and not any(digest in str(finding.path) for digest in damaged):
            ledger.wrong.append(f"the store: {finding}")
    left = [str(path) for path in (server.store / "tmp").glob("*")]
    ledger.must(not left, f"left behind below tmp: {left[:5]}")


def judge_processes(server: RealServer, ledger: Ledger, before: Holding, seen: Watch) -> None:
    """Memory is flat, and no descriptor, thread or child is left of what was done."""
    for which, samples in (("API", seen.api), ("engine", seen.engine)):
        if len(samples) >= 30:
            first, last = growth(samples)
            say(f"{which}: {first / MiB:.0f} MiB in the first third of the samples, {last / MiB:.0f} in the last")
            flat = last <= RESIDENT_GROWTH * first + RESIDENT_SLACK
            ledger.must(flat, f"the memory of the {which} grew from {first / MiB:.0f} to {last / MiB:.0f} MiB")
    time.sleep(6)  # connections that clients closed are closed here, too
    now = holding(server.process.process_id)
    assert now is not None
    say(f"API before: {before}; after: {now}")
    ledger.must(now.descriptors <= before.descriptors + DESCRIPTOR_SLACK, f"descriptors: {before}, then {now}")
    ledger.must(now.threads <= MOST_THREADS, f"threads: {before}, then {now}")
    ledger.must(len(children(server.process.process_id)) <= 2, f"children: {children(server.process.process_id)}")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_server_that_is_hurt_in_many_ways_ends_every_request_and_leaks_nothing(tmp_path: Path) -> None:
    base = write_tiny_model("llama", tmp_path / "base")
    with serving(base, tmp_path, **SETTINGS) as server:
        ledger, seen = Ledger(), Watch()
        usual = healthy_seconds(server)
        before = holding(server.process.process_id)
        assert before is not None
        asyncio.run(soak(server, ledger, seen))
        say(ledger.summary())
        server.process.wait_until_ready(READY_SECONDS)
        server.wait_idle(120)
        held = judge_gauges(server, ledger)
        for name in ("adapters_pinned", "requests_running", "requests_waiting", "kv_blocks_used"):
            ledger.must(held[f"switchyard_{name}"] == 0, f"{name} is {held[f'switchyard_{name}']:g} on an idle server")
        ledger.judge_answers()
        judge_store(server, ledger)
        again = healthy_seconds(server)
        say(f"a request to the base took {usual * 1e3:.0f} ms before and {again * 1e3:.0f} ms after")
        ledger.must(again <= LATENCY_GROWTH * usual + LATENCY_SLACK, f"latency: {usual:.3f} s, then {again:.3f} s")
        judge_processes(server, ledger, before, seen)
        assert ledger.outcomes["200"] > 0
        assert not ledger.wrong, "\n".join(ledger.wrong[:40]) + f"\nlog:\n{server.log.read_text()[-4000:]}"
