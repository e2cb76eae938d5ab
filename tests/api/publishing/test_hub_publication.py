"""`PUT /v1/adapters/{name}` with a place on a hub instead of files."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from adapters_store import AdapterRef, parse_adapter_name
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
