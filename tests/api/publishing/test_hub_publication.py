"""`PUT /v1/adapters/{name}` with a place on a hub instead of files."""

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from adapters_store import AdapterRef, Publication, parse_adapter_name
from adapters_store.hub_source import publish_from_hub
from tests.adapters_store.fake_hub import FakeHub, configured_hub
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub that `huggingface_hub` is configured for."""
    with configured_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
async def client(bench: Bench, hub: FakeHub) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, bench.engine(saying([])), allow_hub_sources=True) as client:
        yield client


async def test_an_adapter_is_fetched_and_its_commit_recorded(
    bench: Bench, hub: FakeHub, client: httpx.AsyncClient
) -> None:
    commit = hub.add("team/support-lora", bench.adapter_directory())
    answer = await client.put(
        "/v1/adapters/support", params={"alias": "canary"}, json={"source": "hub:team/support-lora"}
    )
    assert (answer.status_code, answer.json()["alias"]) == (201, "canary")
    assert answer.json()["notes"]["source"] == f"hub:team/support-lora@{commit}"
    version = bench.store.resolve(AdapterRef(parse_adapter_name("support"), alias="canary"))
    assert version.notes.source == f"hub:team/support-lora@{commit}"
    assert not list((bench.store.root / "tmp").iterdir())
    again = await client.put("/v1/adapters/support", json={"source": f"hub:team/support-lora@{commit}"})
    assert again.status_code == 200


async def test_a_download_has_threads_of_its_own(
    bench: Bench, hub: FakeHub, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def publish(*arguments: Any, **options: Any) -> Publication:
        used.append(threading.current_thread().name)
        return publish_from_hub(*arguments, **options)

    monkeypatch.setattr("server.api.publishing.hub_publication.publish_from_hub", publish)
    hub.add("team/support-lora", bench.adapter_directory())
    assert (await client.put("/v1/adapters/support", json={"source": "hub:team/support-lora"})).status_code == 201
    assert [name.rpartition("_")[0] for name in used] == ["hub-download"]


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("hub:team/nothing", 502, "source_unavailable"),
        ("team/support-lora", 400, "invalid_adapter"),
        ("/etc", 400, "invalid_adapter"),
        ("hub:../x", 400, "invalid_adapter"),
        ("", 400, "invalid_value"),
    ],
)
async def test_what_cannot_be_fetched_is_refused_by_the_fields_name(
    bench: Bench, client: httpx.AsyncClient, source: str, status: int, code: str
) -> None:
    answer = await client.put("/v1/adapters/support", json={"source": source})
    assert answer.status_code == status
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, "source")
    assert bench.store.list() == []


async def test_a_server_that_was_not_told_to_fetches_nothing(bench: Bench, hub: FakeHub) -> None:
    hub.add("team/support-lora", bench.adapter_directory())
    async with serving(bench, bench.engine(saying([]))) as client:
        refused = await client.put("/v1/adapters/support", json={"source": "hub:team/support-lora"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden_source")
    assert hub.asked == []


async def test_an_upload_is_noted_as_one(bench: Bench, client: httpx.AsyncClient) -> None:
    files = [("files", (path.name, path.read_bytes())) for path in bench.adapter_directory().iterdir()]
    assert (await client.put("/v1/adapters/support", files=files)).json()["notes"]["source"] == "upload"
