"""Server-sent events: chunks in OpenAI's shapes, the end, and failures on the way."""

import json
from typing import Any

import httpx
import pytest

from server.api.protocol.answers import ChatCompletionChunk, Completion
from server.engine.messages import Failed
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying, started, tokens

pytestmark = pytest.mark.anyio

PROMPT = {"model": "base", "prompt": "hello", "stream": True}
CHAT = {"model": "base", "messages": [{"role": "user", "content": "hello"}], "stream": True}
USAGE = {"stream_options": {"include_usage": True}}


def events_of(response: httpx.Response) -> list[Any]:
    """The data of every event, decoded; `[DONE]` as text."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


async def test_a_stream_of_text(bench: Bench) -> None:
    digest = bench.publish("support")
    engine = bench.engine(saying(bench.ids("one two"), "length", cached_tokens=1))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=PROMPT | {"model": "support"})
    *chunks, last, done = events_of(response)
    assert done == "[DONE]"
    for chunk in (*chunks, last):
        Completion.model_validate(chunk)
        assert chunk["model"] == "support"
        assert "usage" not in chunk
    assert len({chunk["id"] for chunk in (*chunks, last)}) == 1
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "one two"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * len(chunks)
    assert last["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}
    assert chunks[0]["switchyard"] == {
        "adapter": "support",
        "digest": digest,
        "fallback": None,
        "cached_tokens": 1,
    }
    assert not any("switchyard" in chunk for chunk in (*chunks[1:], last))
    assert response.headers["x-adapter-digest"] == digest
    assert response.headers["cache-control"] == "no-cache"


async def test_a_stream_of_a_chat(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("I am fine")))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    first, *chunks, last, done = events_of(response)
    assert done == "[DONE]"
    for chunk in (first, *chunks, last):
        ChatCompletionChunk.model_validate(chunk)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["switchyard"]["adapter"] == "base"
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "I am fine"
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", PROMPT), ("/v1/chat/completions", CHAT)])
async def test_the_usage_chunk_comes_last_and_only_when_asked_for(
    bench: Bench, path: str, body: dict[str, Any]
) -> None:
    engine = bench.engine(saying(bench.ids("one two"), cached_tokens=2))
    async with serving(bench, engine) as client:
        response = await client.post(path, json=body | USAGE)
    *chunks, usage, done = events_of(response)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(bench.ids("one two"))
    assert usage["usage"]["prompt_tokens"] == len(engine.submitted[0].prompt)
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert usage["switchyard"] == chunks[0]["switchyard"]


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", PROMPT), ("/v1/chat/completions", CHAT)])
async def test_an_answer_without_tokens_is_a_whole_stream(bench: Bench, path: str, body: dict[str, Any]) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        first, last, done = events_of(await client.post(path, json=body))
    assert first["switchyard"]["adapter"] == "base"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


async def test_no_chunk_splits_a_character(bench: Bench) -> None:
    text = "東京 😀 schöne Straße"
    async with serving(bench, bench.engine(saying(bench.ids(text)))) as client:
        *chunks, _, _ = events_of(await client.post("/v1/completions", json=PROMPT))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
    assert not any("\ufffd" in chunk["choices"][0]["text"] for chunk in chunks)


async def test_no_chunk_shows_a_part_of_a_stop_string(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("one two <END> three")))
    async with serving(bench, engine) as client:
        *chunks, last, _ = events_of(await client.post("/v1/completions", json=PROMPT | {"stop": "<END>"}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "one two "
    assert not any("<" in chunk["choices"][0]["text"] for chunk in chunks)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert engine.cancelled == [engine.submitted[0].request_id]


async def test_a_failure_on_the_way_is_an_event_and_then_the_end(bench: Bench) -> None:
    engine = bench.engine(
        lambda request: [
            started(request),
            tokens(request, bench.ids("one")),
            Failed(request_id=request.request_id, code="engine_unavailable", message="the engine died"),
        ]
    )
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=PROMPT)
    assert response.status_code == 200
    *_, error = events_of(response)
    assert error == {
        "error": {
            "message": "the engine died",
            "type": "server_error",
            "param": None,
            "code": "engine_unavailable",
        }
    }


async def test_an_error_of_ours_on_the_way_tells_nothing_of_the_inside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("server.api.text.generated_text.GeneratedText.push", broken)
    async with serving(bench, bench.engine(saying([5, 6]))) as client:
        response = await client.post("/v1/completions", json=PROMPT)
    *_, error = events_of(response)
    assert error["error"]["code"] == "internal_error"
    assert "secret" not in response.text
