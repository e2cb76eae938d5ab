"""The life of the application: it answers while the engine loads, restarts and is gone."""

import asyncio

import httpx
import pytest

from server.api.app import create_app
from server.errors import BaseModelError, SwitchyardError
from tests.api.harness import Bench, serving, settings, until, until_ready
from tests.api.scripted_engine import ScriptedEngine, model_info, saying

pytestmark = pytest.mark.anyio

BODY = {"model": "base", "prompt": "x"}


async def test_it_is_alive_but_not_ready_while_the_engine_loads(bench: Bench) -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine(model_info(bench.base), saying([]), gate=gate)
    async with serving(bench, engine, ready=False) as client:
        assert (await client.get("/health")).status_code == 200
        assert [(await client.head(path)).status_code for path in ("/health", "/ping", "/ready")] == [200, 200, 503]
        readiness = await client.get("/ready")
        assert (readiness.status_code, readiness.json()) == (503, {"status": "starting"})
        for path in ("/v1/completions", "/v1/chat/completions"):
            early = await client.post(path, json=BODY)
            assert early.status_code == 503
            assert early.json()["error"]["code"] == "engine_unavailable"
            assert int(early.headers["retry-after"]) >= 1
        assert (await client.get("/v1/models")).status_code == 503
        assert (await client.put("/v1/adapters/support")).status_code == 503
        assert (await client.get("/v1/adapters")).status_code == 200
        gate.set()
        await until_ready(client)
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200


async def test_the_store_learns_which_base_is_served(bench: Bench) -> None:
    """Under its own name, whatever it is served as: the next server may call it otherwise."""
    engine = bench.engine(saying([]), name="served-as", base_name="org/its-own")
    async with serving(bench, engine):
        description = bench.store.base()
    assert description is not None
    assert (description.name, dict(description.modules)) == ("org/its-own", engine.info.modules)


async def test_while_the_engine_restarts_requests_are_told_to_come_back(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        engine.status = "restarting"
        assert (await client.get("/health")).status_code == 200
        readiness = await client.get("/ready")
        assert (readiness.status_code, readiness.json()) == (503, {"status": "restarting"})
        refused = await client.post("/v1/completions", json=BODY)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert (await client.get("/v1/models")).status_code == 200
        engine.status = "ready"
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200


@pytest.mark.parametrize("error", [BaseModelError("no such base"), RuntimeError("a secret of the inside")])
async def test_an_engine_that_cannot_start_is_reported_and_the_server_is_unwell(bench: Bench, error: Exception) -> None:
    failures: list[SwitchyardError] = []
    engine = ScriptedEngine(model_info(bench.base), saying([]), start_error=error)
    app = create_app(settings(bench), engine, bench.store, on_failure=failures.append)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        await until(lambda: failures)
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/ready")).json() == {"status": "failed"}
        refused = await client.post("/v1/completions", json=BODY)
        assert refused.status_code == 503
    (failure,) = failures
    assert ("no such base" in failure.message) == isinstance(error, BaseModelError)
    assert "secret" not in failure.message
    assert engine.status == "stopped"


async def test_a_base_without_a_tokenizer_is_a_failure_to_start(bench: Bench) -> None:
    failures: list[SwitchyardError] = []
    empty = bench.scratch / "empty"
    empty.mkdir()
    app = create_app(
        settings(bench), ScriptedEngine(model_info(empty), saying([])), bench.store, on_failure=failures.append
    )
    async with app.router.lifespan_context(app):
        await until(lambda: failures)
    assert isinstance(failures[0], BaseModelError)


async def test_an_engine_that_is_gone_for_good_is_reported(bench: Bench) -> None:
    failures: list[SwitchyardError] = []
    engine = bench.engine(saying([]))
    app = create_app(settings(bench), engine, bench.store, on_failure=failures.append)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        await until_ready(client)
        engine.status = "failed"
        await until(lambda: failures)
        assert (await client.get("/health")).status_code == 503


async def test_stopping_while_the_engine_loads_ends_the_engine(bench: Bench) -> None:
    engine = ScriptedEngine(model_info(bench.base), saying([]), gate=asyncio.Event())
    async with serving(bench, engine, ready=False) as client:
        assert (await client.get("/health")).status_code == 200
    assert engine.status == "stopped"


async def test_the_version_and_the_description_of_the_api(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        version = (await client.get("/version")).json()["version"]
        description = (await client.get("/openapi.json")).json()
    assert description["info"]["version"] == version
    body = description["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "messages" in body["properties"]


async def test_ping_is_health_under_the_name_of_peers_and_needs_no_key(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([])), api_key="secret") as client:
        answer = await client.get("/ping")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
