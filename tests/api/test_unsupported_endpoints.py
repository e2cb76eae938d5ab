"""What others serve and this server does not: refused with a pointer to what it has."""

import openai
import pytest
from openai import AsyncOpenAI

from server.api.unsupported_endpoints import UNSUPPORTED_ENDPOINTS, instead_of
from tests.api.harness import Bench, live, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", sorted(UNSUPPORTED_ENDPOINTS))
async def test_an_endpoint_of_others_is_not_found_and_says_what_to_use(bench: Bench, path: str) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        for answer in (await client.post(path, json={}), await client.get(path)):
            assert answer.status_code == 404
            error = answer.json()["error"]
            assert error["code"] == "unsupported_endpoint"
            assert path in error["message"]
            assert UNSUPPORTED_ENDPOINTS[path] in error["message"]


async def test_no_endpoint_is_called_unsupported_that_is_served(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        served = (await client.get("/openapi.json")).json()["paths"]
    assert [path for path in served if instead_of(path) is not None] == []


async def test_a_path_that_nobody_serves_is_plainly_not_found(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        answer = await client.post("/v1/chat/completion", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_the_client_of_openai_raises_at_once(bench: Bench) -> None:
    async with live(bench, bench.engine(saying([]))) as url:
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5)
        with pytest.raises(openai.NotFoundError, match="no embedding model"):
            await client.embeddings.create(model="base", input="x")
        with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
            await client.responses.create(model="base", input="x")
        with pytest.raises(openai.NotFoundError, match="text only"):
            await client.images.generate(prompt="x")
        await client.close()


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/images/generations", True),
        ("/v1/audio/transcriptions", True),
        ("/embeddings", True),
        ("/v1/classify", True),
        ("/v1", False),
        ("/", False),
        ("", False),
        ("/v1/models/v1/embeddings", False),
    ],
)
def test_what_lies_below_an_endpoint_is_known_too(path: str, known: bool) -> None:
    assert (instead_of(path) is not None) is known
