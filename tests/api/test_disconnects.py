"""A client that goes away: its generation is cancelled at once and its place is free."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.harness import Bench, live, until
from tests.api.scripted_engine import Pause, ScriptedEngine, Wait, started, tokens

pytestmark = pytest.mark.anyio


def endless(bench: Bench) -> ScriptedEngine:
    """An engine that never ends by itself."""
    word = bench.ids("a")
    return bench.engine(
        lambda request: [
            started(request),
            *(step for _ in range(10_000) for step in (Pause(0.005), tokens(request, word))),
        ]
    )


def silent(bench: Bench) -> ScriptedEngine:
    """An engine that never begins."""
    return bench.engine(lambda request: [Wait(asyncio.Event())])


async def send(url: str, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a completion request over a connection of its own."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    content = json.dumps({"model": "base", "prompt": "x", "max_tokens": 100} | body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()
    return reader, writer


async def outcome_count(url: str, outcome: str) -> float:
    async with httpx.AsyncClient(base_url=url) as client:
        text = (await client.get("/metrics")).text
    wanted = f'switchyard_requests_total{{adapter="base",outcome="{outcome}"}} '
    return sum(float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_in_the_middle(bench: Bench, stream: bool) -> None:
    engine = endless(bench)
    async with live(bench, engine) as url:
        reader, writer = await send(url, {"stream": stream})
        if stream:
            await reader.readuntil(b"data: ")
        else:
            await until(lambda: engine.submitted)
        writer.close()
        await until(lambda: engine.cancelled)
        assert engine.cancelled == [engine.submitted[0].request_id]
        assert await outcome_count(url, "disconnected") == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_its_adapter_is_known(bench: Bench, stream: bool) -> None:
    engine = silent(bench)
    async with live(bench, engine) as url:
        _, writer = await send(url, {"stream": stream})
        await until(lambda: engine.submitted)
        writer.close()
        await until(lambda: engine.cancelled)


async def test_the_place_of_a_client_that_left_is_free(bench: Bench) -> None:
    engine = silent(bench)
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        writers = [(await send(url, {}))[1] for _ in range(engine.info.max_rows)]
        await until(lambda: len(engine.submitted) == engine.info.max_rows)
        refused = await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
        assert refused.status_code == 429
        writers[0].close()
        await until(lambda: engine.cancelled)
        _, writer = await send(url, {})
        await until(lambda: len(engine.submitted) == engine.info.max_rows + 1)
        for open_writer in (*writers[1:], writer):
            open_writer.close()
        await until(lambda: len(engine.cancelled) == len(engine.submitted))


async def test_an_answer_that_was_read_to_its_end_is_no_disconnect(bench: Bench) -> None:
    engine = bench.engine(lambda request: [started(request), tokens(request, bench.ids("a"), "length")])
    async with live(bench, engine) as url, httpx.AsyncClient(base_url=url) as client:
        for stream in (True, False):
            body = {"model": "base", "prompt": "x", "stream": stream}
            assert (await client.post("/v1/completions", json=body)).status_code == 200
        assert await outcome_count(url, "length") == 2
        assert await outcome_count(url, "disconnected") == 0
    assert engine.cancelled == []


async def test_many_streams_of_which_a_third_is_cut(bench: Bench) -> None:
    word = bench.ids("word ")
    engine = bench.engine(
        lambda request: [
            started(request),
            *(step for _ in range(20) for step in (Pause(0.01), tokens(request, word))),
            tokens(request, [], "length"),
        ],
        max_rows=200,
    )

    async def whole(url: str) -> bytes:
        reader, writer = await send(url, {"stream": True})
        text = await reader.readuntil(b"[DONE]")
        writer.close()
        return text

    async def cut(url: str) -> None:
        reader, writer = await send(url, {"stream": True})
        await reader.readuntil(b"data: ")
        writer.close()

    async with live(bench, engine) as url:
        results = await asyncio.gather(*(cut(url) if number % 3 == 0 else whole(url) for number in range(90)))
        assert sum(result is not None for result in results) == 60
        await until(lambda: len(engine.cancelled) == 30)
        assert await outcome_count(url, "length") == 60
        assert await outcome_count(url, "disconnected") == 30


async def test_a_client_that_reads_no_more_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.client_connection.STALLED_SECONDS", 0.2)
    text = bench.ids("lorem ipsum ") * 1000
    engine = bench.engine(lambda request: [started(request), *(tokens(request, text) for _ in range(1000))])
    async with live(bench, engine) as url:
        _, writer = await send(url, {"stream": True})
        await until(lambda: engine.cancelled, seconds=20)
        assert await outcome_count(url, "disconnected") == 1
        writer.close()


async def test_a_slow_client_is_not_a_stalled_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.client_connection.STALLED_SECONDS", 0.1)
    word = bench.ids("a")
    engine = bench.engine(
        lambda request: [
            started(request),
            Pause(0.5),
            tokens(request, word),
            Pause(0.3),
            tokens(request, word, "length"),
        ]
    )
    async with live(bench, engine) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x", "stream": True})
    assert response.text.endswith("data: [DONE]\n\n")
    assert engine.cancelled == []
