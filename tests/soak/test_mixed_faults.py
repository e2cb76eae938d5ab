"""Minutes of everything at once: a server that is hurt in many ways ends every request properly and leaks nothing."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from adapters_store import AdapterStore, CorruptVersion, parse_adapter_name
from adapters_store.names import AdapterRef
from adapters_store.verification import verify
from loadtest.adapters import RandomAdapter, published_adapters
from tests.http.client import body, complete
from tests.http.real_server import RealServer, serving
from tests.soak.account import Account, Reading
from tests.soak.disturbances import RANKS, READY_SECONDS, Disturbances
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

LEAST_SAMPLES = 30
LONG_MINUTES = 5.0
"""A soak of so many minutes must have taken so many samples of each process; a shorter one is no test of memory."""

DESCRIPTOR_SLACK = 8
THREAD_SLACK = 4
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
    "engine_restart_timeout": 60,
    "engine_restart_limit": 100_000,
    "log_level": "warning",
}


@dataclass
class Watch:
    """What was seen of the server's processes; `engine` only of the second half, in which no engine is killed.

    `gauges`: how often an engine told its own.
    """

    gauges: int = 0
    api: list[Holding] = field(default_factory=list)
    engine: list[Holding] = field(default_factory=list)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def read_metrics(server: RealServer) -> Reading:
    return Reading.of(httpx.get(f"{server.url}/metrics", timeout=60).text)


def open_account(server: RealServer) -> Account:
    """What the empty server has, and what an adapter of each rank takes of it, one after the other."""
    deadline = time.monotonic() + 60

    def after(rank: int | None) -> Reading:
        while not (now := read_metrics(server)).has_engine or (rank is not None and not now.resident.get(rank)):
            assert time.monotonic() < deadline, f"no gauges, or none of a version of rank {rank}"
            time.sleep(0.1)
        return now

    empty = after(None)
    held, sizes = 0.0, {}
    for rank in RANKS:
        published_adapters(server.store, [RandomAdapter(f"sized-{rank}", rank, seed=rank)])
        assert complete(server, f"sized-{rank}").status_code == 200
        now = after(rank).sums["switchyard_adapter_bytes"]
        sizes[rank], held = int(now - held), now
    return Account.opened(empty, SETTINGS, sizes)


def judge_gauges(server: RealServer, ledger: Ledger, account: Account) -> bool:
    """Hold what the server says of itself against the bounds of every moment; returns whether an engine was there."""
    now = read_metrics(server)
    if now.has_engine:
        ledger.wrong.extend(account.faults(now))
        ledger.must(now.sums["switchyard_requests_running"] <= MAX_ROWS, "more rows than max_rows")
        ledger.must(now.sums["switchyard_requests_waiting"] <= MAX_QUEUE + MAX_ROWS, "more waiting than max_queue")
    failed = now.sums["switchyard_internal_errors_total"]
    ledger.must(failed == 0, f"{failed:g} answers were 500")
    return now.has_engine


def judge_idle(server: RealServer, ledger: Ledger, account: Account) -> None:
    """What is held belongs to somebody, as soon as the last preload is through."""
    deadline = time.monotonic() + 60
    while True:
        now = read_metrics(server)
        faults = [*account.faults_when_idle(now)] if now.has_engine else ["no engine is ready"]
        if not faults or time.monotonic() > deadline:
            ledger.wrong.extend(faults)
            return
        time.sleep(0.5)


def judge_availability(server: RealServer, ledger: Ledger) -> None:
    """Every name whose version is whole is answered by just that version."""
    store = AdapterStore(server.store)
    whole = 0
    for name in sorted(ledger.published):
        if not name.startswith("steady"):
            continue
        try:
            digest = store.resolve(AdapterRef(parse_adapter_name(name))).digest
        except CorruptVersion as error:
            ledger.must(bool(ledger.damaged & ledger.published[name]), f"{name} is whole: {error}")
            continue
        if digest in ledger.damaged:
            continue
        whole += 1
        answer = complete(server, name, max_tokens=2)
        told = answer.json().get("switchyard", {}).get("digest")
        right = answer.status_code == 200 and told == digest
        ledger.must(right, f"{name} is {digest}: {answer.status_code} {answer.text[:400]}")
    say(f"{whole} whole names were asked for at the end")
    ledger.must(whole > 0, "no name is whole at the end")


async def watch(server: RealServer, ledger: Ledger, account: Account, seen: Watch, calm_at: float, end: float) -> None:
    said = begun = time.monotonic()
    told = 0
    while time.monotonic() < end and len(ledger.wrong) < MOST_WRONG:
        await asyncio.sleep(1.0)
        seen.gauges += await asyncio.to_thread(judge_gauges, server, ledger, account)
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


async def soak(server: RealServer, ledger: Ledger, account: Account, seen: Watch) -> None:
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
            watch(server, ledger, account, seen, calm_at + 15, end),
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
        if len(samples) < LEAST_SAMPLES:
            say(f"{which}: {len(samples)} samples are too few to judge")
            ledger.must(SOAK_MINUTES < LONG_MINUTES, f"only {len(samples)} samples of the {which}")
            continue
        first, last = growth(samples)
        say(f"{which}: in the first third of the samples {first}; in the last {last}")
        flat = last.resident <= RESIDENT_GROWTH * first.resident + RESIDENT_SLACK
        ledger.must(flat, f"the memory of the {which} grew: {first}, then {last}")
        few = last.descriptors <= first.descriptors + DESCRIPTOR_SLACK and last.threads <= first.threads + THREAD_SLACK
        if which == "engine":  # that of the API is judged below, when it is idle
            ledger.must(few, f"the engine keeps descriptors or threads: {first}, then {last}")
    ledger.must(seen.gauges >= LEAST_SAMPLES or SOAK_MINUTES < LONG_MINUTES, f"gauges were read {seen.gauges} times")
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
        account = open_account(server)
        asyncio.run(soak(server, ledger, account, seen))
        say(ledger.summary())
        server.process.wait_until_ready(READY_SECONDS)
        server.wait_idle(120)
        judge_idle(server, ledger, account)
        judge_availability(server, ledger)
        ledger.judge_answers()
        judge_store(server, ledger)
        again = healthy_seconds(server)
        say(f"a request to the base took {usual * 1e3:.0f} ms before and {again * 1e3:.0f} ms after")
        ledger.must(again <= LATENCY_GROWTH * usual + LATENCY_SLACK, f"latency: {usual:.3f} s, then {again:.3f} s")
        judge_processes(server, ledger, before, seen)
        assert ledger.outcomes["200"] > 0
        assert not ledger.wrong, "\n".join(ledger.wrong[:40]) + f"\nlog:\n{server.log.read_text()[-4000:]}"
