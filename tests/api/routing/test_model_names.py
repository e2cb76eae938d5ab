"""The `model` field: the base by its names, one adapter in any of its forms, and nothing else."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, saying

pytestmark = pytest.mark.anyio

SERVED = "org/tiny-base"


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying([]))


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine, served_name=SERVED) as client:
        yield client


async def complete(client: httpx.AsyncClient, model: str) -> httpx.Response:
    return await client.post("/v1/completions", json={"model": model, "prompt": "x"})


@pytest.mark.parametrize("model", ["base", SERVED, "base:base", f"{SERVED}:base"])
async def test_the_names_of_the_bare_base(client: httpx.AsyncClient, engine: ScriptedEngine, model: str) -> None:
    response = await complete(client, model)
    assert response.status_code == 200
    assert response.json()["model"] == model
    assert engine.submitted[0].adapter is None


async def test_the_forms_of_an_adapters_name(bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    old = bench.publish("acme/support", seed=1, alias="prod")
    new = bench.publish("acme/support", seed=2)
    expected = {
        "acme/support": new,
        "acme/support@latest": new,
        "acme/support@prod": old,
        f"acme/support@{old}": old,
        "base:acme/support": new,
        f"{SERVED}:acme/support@prod": old,
        f"{SERVED}:acme/support@{old}": old,
    }
    for model in expected:
        assert (await complete(client, model)).status_code == 200
    adapters = [request.adapter for request in engine.submitted]
    assert [adapter and adapter.digest for adapter in adapters] == list(expected.values())
    assert {adapter and adapter.name for adapter in adapters} == {"acme/support"}


async def test_a_request_keeps_the_version_it_was_resolved_to(
    bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    first = bench.publish("support", seed=1)
    await complete(client, "support")
    second = bench.publish("support", seed=2)
    await complete(client, "support")
    assert [request.adapter and request.adapter.digest for request in engine.submitted] == [first, second]


@pytest.mark.parametrize("model", ["suport", "support@staging", "support@sha256:" + "0" * 64, "acme/support"])
async def test_what_is_not_there_is_404_model_not_found(bench: Bench, client: httpx.AsyncClient, model: str) -> None:
    bench.publish("support")
    response = await complete(client, model)
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_a_near_miss_is_answered_with_a_suggestion(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.publish("support")
    assert "did you mean 'support'" in (await complete(client, "suport")).json()["error"]["message"]


async def test_a_name_in_another_case_is_answered_with_a_suggestion(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.publish("acme/support")
    message = (await complete(client, "acme/SUPPORT@prod")).json()["error"]["message"]
    assert message == "there is no adapter 'acme/SUPPORT'; did you mean 'acme/support'?"
    assert "did you mean" not in (await complete(client, "ACME/SUPPORT")).json()["error"]["message"]


@pytest.mark.parametrize("model", ["gpt-4o", "TASK", "other/support"])
async def test_a_name_like_no_other_is_told_what_there_is(bench: Bench, client: httpx.AsyncClient, model: str) -> None:
    bench.publish("support")
    message = (await complete(client, model)).json()["error"]["message"]
    assert message == f"there is no adapter '{model}'; ask `base`, or one that GET /v1/models lists"


async def test_an_alias_that_is_not_there_is_answered_with_those_that_are(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.publish("support")
    message = (await complete(client, "support@staging")).json()["error"]["message"]
    assert message.endswith("its aliases are: latest")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("other:support", "not the one served here"),
        ("support+polite", "does not serve"),
        ("task:a/b", "must be letters"),
        ("../../etc/passwd", "must be letters"),
        ("a b", "must be letters"),
        ("support@", "alias"),
        ("base@prod", "bare model"),
        (f"{SERVED}:base:support", "two bases"),
        (f"{SERVED}:{SERVED}/x", "must be letters"),
    ],
)
async def test_a_name_outside_the_grammar_is_the_clients_error(
    bench: Bench, client: httpx.AsyncClient, model: str, says: str
) -> None:
    bench.publish("support")
    response = await complete(client, model)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_model_name", "model")
    assert says in error["message"]
