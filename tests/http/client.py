"""Requests as tests write them."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from tests.http.real_server import RealServer

PROMPT = "Once upon a time there was a small town by the sea, and"


def body(model: str, prompt: str = PROMPT, **fields: Any) -> dict[str, Any]:
    """A greedy completion request of 16 tokens that does not stop early, unless said otherwise."""
    return {
        "model": model,
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": 16,
        "ignore_eos": True,
        "fallback": "error",
    } | fields


def complete(server: RealServer, model: str, prompt: str = PROMPT, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=body(model, prompt, **fields), timeout=60)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


async def stream(client: httpx.AsyncClient, server: RealServer, **fields: Any) -> AsyncGenerator[dict[str, Any]]:
    """The chunks of a streamed completion; ends after `[DONE]`."""
    async with client.stream(
        "POST", f"{server.url}/v1/completions", json=fields | {"stream": True}, timeout=120
    ) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended without [DONE]")
