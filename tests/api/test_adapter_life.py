"""`/v1/adapters` beyond publishing: pages, history, expectations, retiring, restoring, noting, removing aliases."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, saying
from tests.api.test_adapters import parts

pytestmark = pytest.mark.anyio

PATH = "/v1/adapters/acme/support"
NOWHERE = f"sha256:{'0' * 64}"


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying([]))


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine) as client:
        yield client


async def test_a_list_comes_in_pages(bench: Bench, client: httpx.AsyncClient) -> None:
    names = [f"name-{number}" for number in range(5)]
    for name in names:
        bench.publish(name)
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = (await client.get("/v1/adapters", params=params)).json()
        seen += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            break
        params["after"] = seen[-1]
    assert seen == names


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after": "a b"}])
async def test_a_page_that_makes_no_sense_is_refused(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    response = await client.get("/v1/adapters", params=params)
    assert response.status_code == 400


async def test_a_list_shows_versions_of_interest_and_one_adapter_all(bench: Bench, client: httpx.AsyncClient) -> None:
    digests = [bench.publish("acme/support", seed=seed) for seed in range(3)]
    listed = (await client.get("/v1/adapters")).json()["data"][0]
    assert [version["digest"] for version in listed["versions"]] == digests[2:]
    shown = (await client.get(PATH)).json()
    assert [version["digest"] for version in shown["versions"]] == digests
    assert listed["version_count"] == shown["version_count"] == 3
    assert "history" not in shown
    history = (await client.get(PATH, params={"history": "true"})).json()["history"]
    assert [(move["digest"], move["reason"]) for move in history["latest"]] == [(one, "publish") for one in digests]


async def test_of_two_uploads_that_expect_the_same_one_is_409(bench: Bench, client: httpx.AsyncClient) -> None:
    uploads = [
        await client.put(PATH, params={"expect": "none"}, files=parts(bench.adapter_directory(seed)))
        for seed in range(2)
    ]
    assert [upload.status_code for upload in uploads] == [201, 409]
    assert uploads[0].json()["previous"] is None
    error = uploads[1].json()["error"]
    assert (error["code"], error["param"]) == ("alias_conflict", "expect")
    back = await client.post(f"{PATH}/rollback", json={"alias": "latest", "expect": NOWHERE})
    assert back.json()["error"]["code"] == "alias_conflict"


async def test_a_version_is_retired_and_restored(
    bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    old, new = (bench.publish("acme/support", seed=seed) for seed in range(2))
    in_use = await client.post(f"{PATH}/retire", json={"digest": new})
    assert (in_use.status_code, in_use.json()["error"]["code"]) == (409, "version_in_use")
    retired = await client.post(f"{PATH}/retire", json={"digest": old})
    assert retired.json()["retired"] is not None
    assert engine.unloaded == [old]
    request = {"model": f"acme/support@{old}", "prompt": "x"}
    assert (await client.post("/v1/completions", json=request)).status_code == 404
    promoted = await client.post(f"{PATH}/promote", json={"digest": old})
    assert (promoted.status_code, promoted.json()["error"]["code"]) == (409, "version_retired")
    assert (await client.post(f"{PATH}/restore", json={"digest": old})).json()["retired"] is None
    assert (await client.post("/v1/completions", json=request)).status_code == 200


async def test_an_adapter_whose_versions_are_all_retired_is_no_model(bench: Bench, client: httpx.AsyncClient) -> None:
    digest = bench.publish("acme/support")
    assert (await client.post(f"{PATH}/unalias", json={"alias": "latest"})).json() == {
        "id": "acme/support",
        "object": "adapter.alias",
        "alias": "latest",
        "digest": digest,
        "deleted": True,
    }
    assert len((await client.get("/v1/models")).json()["data"]) == 2
    await client.post(f"{PATH}/retire", json={"digest": digest})
    assert len((await client.get("/v1/models")).json()["data"]) == 1


async def test_notes_are_kept_with_the_version(bench: Bench, client: httpx.AsyncClient) -> None:
    await client.put(PATH, files=parts(bench.adapter_directory()))
    body = {"tags": ["lang=de", "good"], "evaluation": {"accuracy": 0.5, "passed": True}, "source_job": "ft-1"}
    noted = (await client.post(f"{PATH}/notes", json=body)).json()
    assert noted["notes"] == {**body, "tags": ["good", "lang=de"], "source": "upload"}
    again = await client.post(f"{PATH}/notes", json={"digest": noted["digest"], "remove_tags": ["good"]})
    assert again.json()["notes"]["tags"] == ["lang=de"]
    assert (await client.get(PATH)).json()["versions"][0]["notes"] == again.json()["notes"]


@pytest.mark.parametrize(
    ("action", "body", "status", "param"),
    [
        ("retire", {}, 400, "digest"),
        ("retire", {"digest": "sha256:1"}, 400, None),
        ("retire", {"digest": NOWHERE}, 404, None),
        ("restore", {"digest": NOWHERE}, 404, None),
        ("restore", {"alias": "x"}, 400, "alias"),
        ("unalias", {}, 400, "alias"),
        ("unalias", {"alias": "../x"}, 400, None),
        ("unalias", {"alias": "prod"}, 404, None),
        ("notes", {"tags": ["a b"]}, 400, "tags"),
        ("notes", {"tags": [5]}, 400, "tags[0]"),
        ("notes", {"evaluation": {"x": None}}, 400, None),
        ("notes", {"evaluation": {"x": 2**60}}, 400, "evaluation.x"),
        ("notes", {"evaluation": {"x": [1]}}, 400, None),
        ("notes", {"parents": ["x"]}, 400, "parents"),
        ("notes", {"digest": NOWHERE, "from": "latest"}, 400, "from"),
        ("notes", {"digest": NOWHERE}, 404, None),
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(
    bench: Bench, client: httpx.AsyncClient, action: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    bench.publish("acme/support")
    before = (await client.get(PATH, params={"history": "true"})).json()
    response = await client.post(f"{PATH}/{action}", json=body)
    assert response.status_code == status
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert (await client.get(PATH, params={"history": "true"})).json() == before


async def test_a_store_that_is_busy_says_when_to_come_again(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bench.publish("acme/support")
    monkeypatch.setattr("adapters_store.name_directory.LOCK_SECONDS", 0.05)
    with bench.store.names.lock(bench.store.list()[0].name):
        response = await client.post(f"{PATH}/promote", json={"digest": digest})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "store_busy")
    assert response.headers["retry-after"] == "2"
