"""The bodies that the OpenAPI document shows are good ones."""

import json
import re
from typing import Any

import pytest

from adapters_store.adapter_files import SOURCE_FILES
from server.api.protocol.adapter_requests import PublishRequest
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying_with_scores, scored

pytestmark = pytest.mark.anyio


def examples(document: dict[str, Any], path: str, method: str = "post") -> dict[str, Any]:
    content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
    return {name: example["value"] for name, example in content["examples"].items()}


async def test_every_reference_of_the_document_leads_somewhere(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying_with_scores([], [], "length"))) as client:
        document = (await client.get("/openapi.json")).json()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))) <= known


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_every_example_is_answered(bench: Bench, path: str) -> None:
    engine = bench.engine(saying_with_scores([scored(5, -0.5, [(5, -0.5)])], [None], "length"), max_model_len=1024)
    async with serving(bench, engine) as client:
        document = (await client.get("/openapi.json")).json()
        found = examples(document, path)
        assert len(found) >= 2
        for name, body in found.items():
            response = await client.post(path, json=body)
            assert response.status_code == 200, f"{name}: {response.text}"


async def test_every_example_of_a_rule_and_of_its_rollback_is_taken(bench: Bench) -> None:
    bench.publish("support")
    async with serving(bench, bench.engine(saying_with_scores([], [], "length"))) as client:
        document = (await client.get("/openapi.json")).json()
        for name, rule in examples(document, "/v1/tasks/{name}", "put").items():
            response = await client.put("/v1/tasks/summarise", json=rule)
            assert response.status_code in (200, 201), f"{name}: {response.text}"
        for name, body in examples(document, "/v1/tasks/{name}/rollback").items():
            response = await client.post("/v1/tasks/summarise/rollback", json=body)
            assert response.status_code == 200, f"{name}: {response.text}"


async def test_publishing_takes_files_or_a_place_on_a_hub(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying_with_scores([], [], "length"))) as client:
        document = (await client.get("/openapi.json")).json()
    described = document["paths"]["/v1/adapters/{name}"]["put"]["requestBody"]
    assert described["required"] is True
    assert set(described["content"]) == {"application/json", "multipart/form-data"}
    assert PublishRequest.parse(described["content"]["application/json"]["example"]).source.startswith("hub:")
    files = described["content"]["multipart/form-data"]["schema"]["properties"]["files"]
    assert files["items"] == {"type": "string", "format": "binary"}
    assert all(name in files["description"] for name in SOURCE_FILES)


async def test_every_route_that_reads_a_body_describes_it(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying_with_scores([], [], "length"))) as client:
        document = (await client.get("/openapi.json")).json()
    undescribed = [
        path
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in ("post", "put", "patch") and "requestBody" not in operation
    ]
    assert undescribed == []
