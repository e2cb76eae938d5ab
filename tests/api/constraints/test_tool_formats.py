"""An adapter whose own template writes calls in another format than the base's: its calls are read in that format."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, saying

pytestmark = pytest.mark.anyio

MISTRAL = (
    "{% for tool in tools or [] %}[AVAILABLE_TOOLS]{{ tool.function.name }}{% endfor %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}{# calls begin with [TOOL_CALLS][ #}"
)
CALL = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]'
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "tools": TOOLS}


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying(bench.ids(CALL)), vocab_size=364, max_model_len=4096)


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine) as client:
        yield client


async def push(bench: Bench, client: httpx.AsyncClient, name: str, **brought: str) -> None:
    source = bench.adapter_directory(seed=len(name))
    files = [("files", (path.name, path.read_bytes())) for path in sorted(source.iterdir())]
    endings = {"chat_template": "jinja"}
    files += [("files", (f"{stem}.{endings.get(stem, 'json')}", text.encode())) for stem, text in brought.items()]
    answer = await client.put(f"/v1/adapters/{name}", files=files)
    assert answer.status_code == 201, answer.text


async def ask(client: httpx.AsyncClient, model: str, **fields: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": model, **CHAT, **fields})


async def test_its_calls_are_bound_and_read_in_its_own_format(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    await push(bench, client, "support", chat_template=MISTRAL)
    answer = await ask(client, "support")
    assert answer.status_code == 200, answer.text
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert (await ask(client, "base")).json()["choices"][0]["message"]["content"] == CALL
    own, base = (str(request.sampling.grammar) for request in engine.submitted)
    assert "[TOOL_CALLS]" in own
    assert "<tool_call>" not in own
    assert "<tool_call>" in base


async def test_with_tokens_of_its_own_tools_are_refused(bench: Bench, client: httpx.AsyncClient) -> None:
    tokenizer: dict[str, Any] = json.loads((bench.base / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": 361, "content": "[TOOL_CALLS]", **flags})
    await push(bench, client, "support", chat_template=MISTRAL, tokenizer=json.dumps(tokenizer))
    refused = await ask(client, "support")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "tools")
    assert (await ask(client, "support", tool_choice="none")).status_code == 200


async def test_targets_of_two_formats_cannot_share_one_answer(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    await push(bench, client, "own", chat_template=MISTRAL)
    await push(bench, client, "plain")
    assert (
        await client.put("/v1/tasks/t", json={"arms": [{"adapter": "own"}], "fallback": ["plain"]})
    ).status_code == 201
    refused = await ask(client, "task:t")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools"), refused.text
    assert engine.submitted == []
    assert (await ask(client, "task:t", tools=[])).status_code == 200
