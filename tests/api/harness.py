"""The application over a scripted engine: in process, or behind a real server on a loopback port."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from tokenizers import Tokenizer

from adapters_store import AdapterStore, parse_adapter_name
from server.api.app import create_app
from server.config import Settings
from server.engine.interface import Engine
from tests.adapters_store.hand_made import BASE, write_adapter
from tests.api.scripted_engine import Script, ScriptedEngine, model_info

READY_SECONDS = 20.0


@dataclass(frozen=True)
class Bench:
    """What a test of the HTTP layer starts from: a base's directory with a tokenizer, and an empty store."""

    base: Path
    tokenizer: Tokenizer
    store: AdapterStore
    scratch: Path

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def engine(self, script: Script, **info: Any) -> ScriptedEngine:
        """An engine over this base."""
        return ScriptedEngine(model_info(self.base, **info), script)

    def adapter_directory(self, seed: int = 0) -> Path:
        """A PEFT directory that fits the base; another one for every seed."""
        return write_adapter(self.scratch / f"adapter-{seed}", seed=seed)

    def publish(self, name: str, seed: int = 0, alias: str = "latest") -> str:
        """Publish a hand-made adapter and return its digest."""
        source = self.adapter_directory(seed)
        return self.store.publish(parse_adapter_name(name), source, base=BASE, alias=alias).version.digest


def settings(bench: Bench, **fields: Any) -> Settings:
    """Settings for tests, which keep nothing outside of the test's own folder."""
    return Settings(**({"cache_dir": bench.scratch / "cache"} | fields))


@contextlib.asynccontextmanager
async def serving(
    bench: Bench, engine: Engine, *, ready: bool = True, **fields: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in this process, with the application's lifespan around it."""
    app = create_app(settings(bench, **fields), engine, bench.store)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            if ready:
                await until_ready(client)
            yield client


@contextlib.asynccontextmanager
async def live(bench: Bench, engine: Engine, **fields: Any) -> AsyncIterator[str]:
    """The URL of a real server over the application."""
    async with live_app(create_app(settings(bench, **fields), engine, bench.store)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            await until_ready(client)
        yield url


@contextlib.asynccontextmanager
async def live_app(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _QuietServer(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
                assert not running.done(), "the server did not start"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


class _QuietServer(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait until inference requests are taken."""
    async with asyncio.timeout(READY_SECONDS):
        while (await client.get("/ready")).status_code != 200:
            await asyncio.sleep(0.01)


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait until a function returns something true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
