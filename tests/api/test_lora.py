"""The routes by which clients of vLLM and SGLang add and remove adapters at run time."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store import UnknownAdapter, parse_adapter_name
from adapters_store.hub_source import HubSource
from tests.adapters_store.fake_hub import configured_hub
from tests.api.harness import Bench, serving, until
from tests.api.scripted_engine import ScriptedEngine, saying

pytestmark = pytest.mark.anyio


@pytest.fixture
def roots(bench: Bench) -> Path:
    """An allowed root with one adapter in it, `roots/tuned`."""
    (bench.scratch / "roots").mkdir()
    bench.adapter_directory(seed=1).rename(bench.scratch / "roots" / "tuned")
    return bench.scratch / "roots"


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying([]))


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine, roots: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine, adapter_roots=(roots,)) as client:
        yield client


async def load(client: httpx.AsyncClient, name: str, path: object, **fields: Any) -> httpx.Response:
    return await client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)} | fields)


def error_of(response: httpx.Response, status: int) -> tuple[str, str, str | None]:
    """Message, code and param of a refusal."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    return error["message"], error["code"], error["param"]


async def test_a_directory_below_a_root_is_published_with_the_words_of_vllm(
    bench: Bench, client: httpx.AsyncClient, roots: Path
) -> None:
    answer = await load(client, "tuned", roots / "tuned")
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'tuned' added successfully.")
    completion = await client.post("/v1/completions", json={"model": "tuned", "prompt": "x"})
    assert completion.json()["switchyard"]["digest"] == bench.store.list()[0].versions[0].digest


async def test_a_name_that_is_there_is_kept_unless_loading_in_place(
    bench: Bench, client: httpx.AsyncClient, roots: Path
) -> None:
    old = bench.publish("support", seed=2)
    message, code, param = error_of(await load(client, "support", roots / "tuned"), 400)
    assert message == (
        "The lora adapter 'support' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True."
    )
    assert (code, param) == ("adapter_already_loaded", "lora_name")
    assert bench.store.get(parse_adapter_name("support")).aliases["latest"] == old
    assert (await load(client, "support", roots / "tuned", load_inplace=True)).status_code == 200
    assert bench.store.get(parse_adapter_name("support")).aliases["latest"] != old


async def test_a_version_of_the_store_gets_a_second_name(bench: Bench, client: httpx.AsyncClient) -> None:
    digest = bench.publish("acme/support", seed=2, alias="prod")
    assert (await load(client, "copy", "acme/support@prod")).status_code == 200
    assert bench.store.get(parse_adapter_name("copy")).aliases == {"latest": digest}


@pytest.mark.parametrize("path", ["nobody", "acme/nobody", "base", "../tuned", "hub/model@main", "a b"])
async def test_a_path_that_names_nothing_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    message, code, param = error_of(await load(client, "tuned", path), 404)
    assert message == f"Loading lora tuned failed: No adapter found for {path}"
    assert (code, param) == ("model_not_found", "lora_path")


async def test_a_missing_directory_below_a_root_is_not_found(client: httpx.AsyncClient, roots: Path) -> None:
    message, _, _ = error_of(await load(client, "tuned", roots / "absent"), 404)
    assert message == f"Loading lora tuned failed: No adapter found for {roots}/absent"


async def test_a_directory_elsewhere_is_forbidden_and_the_setting_named(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    for path in (bench.adapter_directory(seed=5), "/etc", "/"):
        message, code, param = error_of(await load(client, "tuned", path), 403)
        assert "SWITCHYARD_ADAPTER_ROOTS" in message
        assert (code, param) == ("forbidden_source", "lora_path")


async def test_without_roots_no_directory_is_published(bench: Bench, engine: ScriptedEngine, roots: Path) -> None:
    async with serving(bench, engine) as client:
        message, _, _ = error_of(await load(client, "tuned", roots / "tuned"), 403)
    assert "SWITCHYARD_ADAPTER_ROOTS" in message
    assert bench.store.list() == []


async def test_what_the_store_does_not_publish_is_refused_with_its_reason(
    client: httpx.AsyncClient, roots: Path
) -> None:
    (roots / "tuned" / "adapter_config.json").write_text("{}")
    _, code, _ = error_of(await load(client, "tuned", roots / "tuned"), 400)
    assert code == "invalid_adapter"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Both 'lora_name' and 'lora_path' must be provided."),
        ({"lora_name": "x"}, "Both 'lora_name' and 'lora_path' must be provided."),
        ({"lora_name": "", "lora_path": "y"}, "Both 'lora_name' and 'lora_path' must be provided."),
        ({"lora_name": "x", "lora_path": "y", "is_3d_lora_weight": True}, "is_3d_lora_weight is not supported"),
        ({"lora_name": "x", "lora_path": "y", "base_model_name": "gpt"}, "base_model_name is 'gpt'"),
        ({"lora_name": "x", "lora_path": "y", "load_in_place": True}, "did you mean load_inplace?"),
        ({"lora_name": "base", "lora_path": "y"}, "reserved"),
        ({"lora_name": "../x", "lora_path": "y"}, "tenant '..' must be letters"),
    ],
)
async def test_a_malformed_load_is_refused(client: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    said, _, _ = error_of(await client.post("/v1/load_lora_adapter", json=body), 400)
    assert message in said


async def test_unloading_removes_the_name_and_frees_the_device(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    digest = bench.publish("support")
    answer = await client.post("/v1/unload_lora_adapter", json={"lora_name": "support", "lora_int_id": 1})
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'support' removed successfully.")
    assert engine.unloaded == [digest]
    with pytest.raises(UnknownAdapter):
        bench.store.get(parse_adapter_name("support"))
    again = await client.post("/v1/unload_lora_adapter", json={"lora_name": "support"})
    assert error_of(again, 404)[0] == "The lora adapter 'support' cannot be found."
    nameless = await client.post("/v1/unload_lora_adapter", json={})
    assert error_of(nameless, 400)[0] == "'lora_name' needs to be provided to unload a LoRA adapter."


async def test_sglang_gets_its_own_answer(bench: Bench, client: httpx.AsyncClient, roots: Path) -> None:
    body = {"lora_name": "tuned", "lora_path": str(roots / "tuned"), "pinned": False}
    loaded = await client.post("/load_lora_adapter", json=body)
    reference = {"lora_id": bench.store.list()[0].versions[0].digest, **body}
    assert loaded.json() == {"success": True, "error_message": None, "loaded_adapters": {"tuned": reference}}
    again = await client.post("/load_lora_adapter", json=body)
    assert again.status_code == 400
    assert again.json()["success"] is False
    assert "already been loaded" in again.json()["error_message"]
    unloaded = await client.post("/unload_lora_adapter", json={"lora_name": "tuned"})
    assert unloaded.json() == {"success": True, "error_message": None, "loaded_adapters": {}}
    assert (await client.post("/unload_lora_adapter", json={"lora_name": "tuned"})).status_code == 404


async def test_sglangs_pin_holds_until_the_adapter_is_unloaded(
    engine: ScriptedEngine, client: httpx.AsyncClient, roots: Path
) -> None:
    body = {"lora_name": "tuned", "lora_path": str(roots / "tuned"), "pinned": True}
    loaded = await client.post("/load_lora_adapter", json=body)
    assert loaded.json()["loaded_adapters"]["tuned"]["pinned"] is True
    await until(lambda: any(one.pinned for forecast in engine.forecasts for one in forecast.versions))
    await client.post("/unload_lora_adapter", json={"lora_name": "tuned"})
    assert (await client.get("/v1/adapter_usage")).json()["pins"] == []


async def test_a_place_on_a_hub_is_fetched_where_the_operator_allows_it(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, code, param = error_of(await load(client, "tuned", "hub:team/tuned"), 403)
    assert "SWITCHYARD_ALLOW_HUB_SOURCES" in message
    assert (code, param) == ("forbidden_source", "lora_path")
    with configured_hub(monkeypatch) as hub:
        hub.add("team/tuned", bench.adapter_directory(seed=4), "v1")
        async with serving(bench, engine, allow_hub_sources=True) as allowed:
            assert (await load(allowed, "tuned", "hub:team/tuned@v1")).text.startswith("Success")
            assert (await load(allowed, "tuned", "hub:team/tuned@v1")).status_code == 400
            error_of(await load(allowed, "other", "hub:nonsense"), 400)


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_name_that_came_during_the_download_is_kept_unless_loading_in_place(
    bench: Bench, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    fetch = HubSource.fetch
    others: list[str] = []

    def slow(*args: Any, **kwargs: Any) -> str:
        origin = fetch(*args, **kwargs)
        others.append(bench.publish("tuned", seed=5))
        return origin

    monkeypatch.setattr(HubSource, "fetch", slow)
    with configured_hub(monkeypatch) as hub:
        hub.add("team/tuned", bench.adapter_directory(seed=4))
        async with serving(bench, engine, allow_hub_sources=True) as allowed:
            answer = await load(allowed, "tuned", "hub:team/tuned", load_inplace=in_place)
    kept = bench.store.get(parse_adapter_name("tuned")).aliases["latest"] == others[0]
    if in_place:
        assert (answer.status_code, kept) == (200, False)
    else:
        message, code, param = error_of(answer, 400)
        assert "has already been loaded" in message
        assert (code, param, kept) == ("adapter_already_loaded", "lora_name", True)
