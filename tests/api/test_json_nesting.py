"""Bodies of very many levels: refused where they are read, before anything recurses over them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.api.json_nesting import MAX_NESTING, is_nested_too_deeply
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hello"}]


def nested(levels: int) -> str:
    """An object of that many levels, as JSON."""
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, bench.engine(saying([]), max_model_len=4096)) as client:
        yield client


@pytest.mark.parametrize("value", ["x", 7, None, [], {}, json.loads(nested(MAX_NESTING)), [[{}]] * 1_000])
def test_what_clients_send_is_not_too_deep(value: object) -> None:
    assert not is_nested_too_deeply(value)


@pytest.mark.parametrize("value", [json.loads(nested(MAX_NESTING + 1)), [1, json.loads(nested(MAX_NESTING))]])
def test_one_level_more_is(value: object) -> None:
    assert is_nested_too_deeply(value)


def tool(schema: str) -> str:
    return f'{{"type": "function", "function": {{"name": "f", "parameters": {schema}}}}}'


@pytest.mark.parametrize("levels", [300, 910, 5_000])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", f'{{"messages": {json.dumps(MESSAGES)}, "tool_choice": "none", "tools": [TOOL]}}'),
        ("/tokenize", f'{{"messages": {json.dumps(MESSAGES)}, "tools": [TOOL]}}'),
        ("/v1/completions", '{"prompt": "x", "logit_bias": DEEP}'),
    ],
)
async def test_a_deep_body_is_a_400(client: httpx.AsyncClient, path: str, body: str, levels: int) -> None:
    deep = nested(levels)
    content = body.replace("TOOL", tool(deep)).replace("DEEP", deep)
    refused = await client.post(path, content=content, headers={"content-type": "application/json"})
    assert refused.status_code == 400, refused.text
    assert "nested too deeply" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
async def test_deep_arguments_of_a_call_are_refused_by_their_field(client: httpx.AsyncClient, path: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": nested(910)}}
    messages = [*MESSAGES, {"role": "assistant", "tool_calls": [call]}]
    refused = await client.post(path, json={"messages": messages})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == "messages[1].tool_calls[0].function.arguments"


async def test_a_deep_schema_as_text_is_refused_by_its_field(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/chat/completions", json={"messages": MESSAGES, "guided_json": nested(910)})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guided_json")


async def test_what_is_allowed_is_written_and_served(client: httpx.AsyncClient) -> None:
    schema: Any = json.loads(nested(MAX_NESTING - 5))
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    body = {"model": "base", "messages": MESSAGES, "tools": tools}
    for path, fields in (("/v1/chat/completions", {"tool_choice": "none"}), ("/tokenize", {})):
        answer = await client.post(path, json=body | fields)
        assert answer.status_code == 200, answer.text
