"""Several choices in one answer: `n` of them for each of several prompts."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server.api.protocol.answers import ChatCompletion, ChatCompletionChunk, Completion
from server.engine.messages import Failed, Submit
from tests.api.harness import Bench, live, serving, until
from tests.api.scripted_engine import Pause, Step, Wait, saying, started, tokens
from tests.api.test_disconnects import outcome_count, send
from tests.api.test_streams import events_of

pytestmark = pytest.mark.anyio

CHAT = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
THREE = {"model": "base", "prompt": "count", "n": 3}


def counting(bench: Bench, *, words: tuple[str, ...] = ("one", "two", "three", "four"), **fields: Any) -> Any:
    """Every request is answered with the next word."""
    texts = itertools.cycle(words)

    def script(request: Submit) -> list[Step]:
        return list(saying(bench.ids(next(texts)), **fields)(request))

    return script


async def test_n_choices_of_one_prompt(bench: Bench) -> None:
    engine = bench.engine(counting(bench, cached_tokens=2))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=THREE)
    answer = Completion.model_validate(response.json())
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "one"), (1, "two"), (2, "three")]
    assert len({request.request_id for request in engine.submitted}) == 3
    assert answer.usage is not None
    assert answer.usage.model_dump() == {
        "prompt_tokens": len(bench.ids("count")),
        "completion_tokens": sum(len(bench.ids(word)) for word in ("one", "two", "three")),
        "total_tokens": sum(len(bench.ids(word)) for word in ("count", "one", "two", "three")),
        "prompt_tokens_details": {"cached_tokens": 2},
    }


async def test_n_messages_of_one_chat(bench: Bench) -> None:
    async with serving(bench, bench.engine(counting(bench))) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"n": 2})
    answer = ChatCompletion.model_validate(response.json())
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, "one"), (1, "two")]


async def test_choices_are_numbered_prompt_by_prompt(bench: Bench) -> None:
    engine = bench.engine(counting(bench))
    body = {"model": "base", "prompt": ["a b", [7, 8, 9]], "n": 2}
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=body)
    assert [request.prompt for request in engine.submitted] == [bench.ids("a b")] * 2 + [[7, 8, 9]] * 2
    choices = response.json()["choices"]
    assert [(choice["index"], choice["text"]) for choice in choices] == [
        (0, "one"),
        (1, "two"),
        (2, "three"),
        (3, "four"),
    ]
    assert response.json()["usage"]["prompt_tokens"] == len(bench.ids("a b")) + 3


async def test_of_a_prompt_in_the_cache_only_what_no_choice_computed_counts(bench: Bench) -> None:
    cached = iter([0, 16, 16, 5])
    engine = bench.engine(lambda request: saying([5], cached_tokens=next(cached))(request))
    async with serving(bench, engine) as client:
        body = {"model": "base", "prompt": [[7] * 20, [8] * 20], "n": 2}
        response = await client.post("/v1/completions", json=body)
    assert response.json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    assert response.json()["switchyard"]["cached_tokens"] == 5


async def test_each_choice_has_a_seed_of_its_own_that_the_clients_seed_gives(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        for n in (1, 3, 3):
            await client.post("/v1/completions", json=THREE | {"n": n, "seed": 7})
        await client.post("/v1/completions", json=THREE | {"prompt": ["a", "b"], "n": 2, "seed": 7})
        await client.post("/v1/completions", json=THREE)
    seeds = [request.sampling.seed for request in engine.submitted]
    alone, first, second, prompts, without = seeds[:1], seeds[1:4], seeds[4:7], seeds[7:11], seeds[11:]
    assert alone == [7]
    assert first == second
    assert first[0] == 7
    assert len(set(first)) == 3
    assert prompts == first[:2] * 2
    assert without == [None] * 3


async def test_a_stream_interleaves_its_choices(bench: Bench) -> None:
    words = [bench.ids("one two three"), bench.ids("red green blue")]
    turns = iter(words)

    def script(request: Submit) -> list[Step]:
        ids = next(turns)
        return [started(request), *(tokens(request, [token_id]) for token_id in ids), tokens(request, [], "length")]

    async with serving(bench, bench.engine(script)) as client:
        body = CHAT | {"n": 2, "stream": True, "stream_options": {"include_usage": True}}
        *chunks, usage, done = events_of(await client.post("/v1/chat/completions", json=body))
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == sum(len(ids) for ids in words)
    texts, ends = {0: "", 1: ""}, {}
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"] is not None:
            ends[choice["index"]] = choice["finish_reason"]
    assert texts == {0: "one two three", 1: "red green blue"}
    assert ends == {0: "length", 1: "length"}
    roles = [chunk for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert [chunk["choices"][0]["index"] for chunk in roles] == [0, 1]
    assert all(chunk["switchyard"]["adapter"] == "base" for chunk in roles)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order != sorted(order), "neither choice waits for the other"
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_every_choice_of_a_stream_of_text_says_where_it_came_from(bench: Bench) -> None:
    async with serving(bench, bench.engine(counting(bench))) as client:
        *chunks, _ = events_of(await client.post("/v1/completions", json=THREE | {"stream": True}))
    told = [chunk["choices"][0]["index"] for chunk in chunks if "switchyard" in chunk]
    assert sorted(told) == [0, 1, 2]


async def test_usage_with_every_chunk(bench: Bench) -> None:
    ids = bench.ids("one two three")
    body = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    async with serving(bench, bench.engine(saying(ids))) as client:
        for path, request in (("/v1/completions", THREE | {"n": 1}), ("/v1/chat/completions", CHAT)):
            *chunks, _ = events_of(await client.post(path, json=request | body))
            counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
            assert counts == sorted(counts)
            assert counts[-1] == counts[-2] == len(ids)
            assert all(chunk["usage"]["prompt_tokens"] > 0 for chunk in chunks)


def failing_second(bench: Bench) -> Any:
    """The second request fails in its midst, the others never end."""
    numbers = itertools.count()

    def script(request: Submit) -> list[Step]:
        if next(numbers) == 1:
            message = "its logits are not finite"
            failure = Failed(request_id=request.request_id, code="engine_failed", message=message)
            return [started(request), tokens(request, bench.ids("a")), Pause(0.02), failure]
        return [started(request), tokens(request, bench.ids("a")), Wait(asyncio.Event())]

    return script


@pytest.mark.parametrize("stream", [False, True])
async def test_a_choice_that_fails_ends_the_request_and_the_others(bench: Bench, stream: bool) -> None:
    engine = bench.engine(failing_second(bench))
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/completions", json=THREE | {"stream": stream})
        if stream:
            assert events_of(response)[-1]["error"]["code"] == "engine_failed"
        else:
            assert response.status_code == 500
            assert response.json()["error"]["message"] == "its logits are not finite"
        await until(lambda: len(engine.cancelled) == 2)
        assert {engine.submitted[0].request_id, engine.submitted[2].request_id} == set(engine.cancelled)
        assert await outcome_count(url, "failed") == 3
        engine.script = saying([])
        assert (await client.post("/v1/completions", json=THREE | {"n": 4})).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_every_choice(bench: Bench, stream: bool) -> None:
    engine = bench.engine(lambda request: [started(request), tokens(request, bench.ids("a")), Wait(asyncio.Event())])
    async with live(bench, engine) as url:
        reader, writer = await send(url, {"n": 3, "stream": stream})
        if stream:
            await reader.readuntil(b"data: ")
        else:
            await until(lambda: len(engine.submitted) == 3)
        writer.close()
        await until(lambda: len(engine.cancelled) == 3)
        assert await outcome_count(url, "disconnected") == 3


async def test_choices_find_a_place_each_or_none_at_all(bench: Bench) -> None:
    hold = asyncio.Event()
    engine = bench.engine(lambda request: [Wait(hold), started(request), tokens(request, [], "stop")])
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        first = asyncio.create_task(client.post("/v1/completions", json=THREE))
        await until(lambda: len(engine.submitted) == 3)
        refused = await client.post("/v1/completions", json=THREE | {"n": 2})
        assert refused.status_code == 429
        assert "counts as 2" in refused.json()["error"]["message"]
        last = asyncio.create_task(client.post("/v1/completions", json=THREE | {"n": 1}))
        await until(lambda: len(engine.submitted) == 4)
        hold.set()
        assert [(await first).status_code, (await last).status_code] == [200, 200]


async def test_more_choices_than_the_server_ever_takes_are_the_clients_error(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([])), max_queue=0) as client:
        response = await client.post("/v1/completions", json=THREE | {"n": 5})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"


async def test_a_choice_that_ended_frees_its_place_before_the_others_have(bench: Bench) -> None:
    numbers, hold = itertools.count(), asyncio.Event()

    def script(request: Submit) -> list[Step]:
        wait: list[Step] = [Wait(hold)] if next(numbers) == 0 else []
        return [started(request), *wait, tokens(request, [5], "stop")]

    engine = bench.engine(script)
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        long = asyncio.create_task(client.post("/v1/completions", json=THREE | {"n": 4}))
        await until(
            lambda: all(generation.ended for generation in engine.generations[1:]) and len(engine.generations) == 4
        )
        assert (await client.post("/v1/completions", json=THREE)).status_code == 200
        hold.set()
        assert (await long).status_code == 200


async def test_a_choice_that_fell_back_is_told_of(bench: Bench) -> None:
    digest = bench.publish("support")
    fates: Iterator[dict[str, Any]] = iter([{}, {"digest": None, "fallback": "timeout", "detail": "waited 30 s"}])
    engine = bench.engine(lambda request: saying([5], **next(fates))(request))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=THREE | {"model": "support", "n": 2})
    body = response.json()
    assert body["switchyard"]["fallback"] == {"reason": "timeout", "detail": "waited 30 s"}
    assert response.headers["x-adapter-fallback"] == "timeout"
    assert body["choices"][0]["switchyard"]["digest"] == digest
    assert "switchyard" not in body["choices"][1]


async def test_an_engine_that_takes_only_some_of_the_choices_keeps_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.engine(saying([]))
    submit, calls = engine.submit, itertools.count()

    def dying(request: Submit) -> Any:
        if next(calls) == 1:
            engine.status = "restarting"
        return submit(request)

    async with serving(bench, engine, max_queue=0) as client:
        with monkeypatch.context() as patched:
            patched.setattr(engine, "submit", dying)
            assert (await client.post("/v1/completions", json=THREE)).status_code == 503
        assert engine.cancelled == [engine.submitted[0].request_id]
        engine.status = "ready"
        assert (await client.post("/v1/completions", json=THREE | {"n": 4})).status_code == 200


async def test_one_line_of_the_log_tells_of_all_choices(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    reasons = iter(["stop", "length", "stop"])
    engine = bench.engine(lambda request: saying([5, 6], next(reasons))(request))  # type: ignore[arg-type]
    with caplog.at_level("DEBUG", "server.api.generation.delivery"):
        async with serving(bench, engine) as client:
            await client.post("/v1/completions", json=THREE)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "server.api.generation.delivery"]
    assert ": stop/length: model base" in line
    assert f"{3 * len(bench.ids('count'))} prompt and 6 generated tokens" in line
