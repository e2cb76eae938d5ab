"""Scores of prompts that several choices continue: asked for once, shown with each, and never too many."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from server.api.formats.completion_format import CompletionFormat
from server.api.text.token_trace import traced_prompt
from server.engine.messages import Failed, PromptScores, Submit
from tests.api.harness import Bench, live, serving, until
from tests.api.scripted_engine import Script, Step, Wait, scored, started, tokens
from tests.api.test_streams import events_of

pytestmark = pytest.mark.anyio

ECHO = {"model": "base", "prompt": "the cat", "n": 3, "echo": True, "logprobs": 1}
CHAT = {"model": "base", "messages": [{"role": "user", "content": "hello"}], "prompt_logprobs": 1}


def scoring(before: Sequence[Step] = ()) -> Script:
    """Scores the prompts of those who ask, after some steps of theirs alone, and then says one token without scores."""

    def script(request: Submit) -> list[Step]:
        scores = [None, *(scored(token, -1.0, [(token, -1.0)]) for token in request.prompt[1:])]
        asks = request.sampling.prompt_logprobs is not None
        first: list[Step] = [*before, PromptScores(request_id=request.request_id, scores=scores)] if asks else []
        return [started(request), *first, tokens(request, [5], "stop")]

    return script


def prompt_scores(choice: dict[str, Any], count: int) -> list[float | None]:
    """Scores of the first tokens of a choice that echoes its prompt."""
    return list(choice["logprobs"]["token_logprobs"][:count])


async def test_only_the_first_choice_of_each_prompt_has_it_scored_and_every_choice_shows_it(bench: Bench) -> None:
    engine = bench.engine(scoring())
    prompts = ["the cat", [7, 8, 9]]
    body = ECHO | {"prompt": prompts, "n": 2, "prompt_logprobs": 1}
    async with serving(bench, engine) as client:
        answer = (await client.post("/v1/completions", json=body)).json()
    assert [request.sampling.prompt_logprobs for request in engine.submitted] == [1, None, 1, None]
    for choice, count in zip(answer["choices"], [len(bench.ids("the cat"))] * 2 + [3, 3], strict=True):
        assert prompt_scores(choice, count) == [None] + [-1.0] * (count - 1)
        assert len(choice["prompt_logprobs"]) == count
    assert answer["choices"][0]["prompt_logprobs"] == answer["choices"][1]["prompt_logprobs"]


async def test_the_choices_of_a_chat_have_one_prompt_scored_once(bench: Bench) -> None:
    engine = bench.engine(scoring())
    async with serving(bench, engine) as client:
        answer = (await client.post("/v1/chat/completions", json=CHAT | {"n": 3})).json()
    assert [request.sampling.prompt_logprobs for request in engine.submitted] == [1, None, None]
    assert len(answer["prompt_logprobs"]) == len(engine.submitted[0].prompt)
    assert len(answer["choices"]) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_that_begin_early_wait_for_the_scores(bench: Bench, stream: bool) -> None:
    hold = asyncio.Event()
    engine = bench.engine(scoring([Wait(hold)]))
    count = len(bench.ids("the cat"))
    async with live(bench, engine) as url, httpx.AsyncClient(base_url=url) as client:
        asked = asyncio.create_task(client.post("/v1/completions", json=ECHO | {"stream": stream}))
        await until(lambda: len(engine.generations) == 3 and all(other.ended for other in engine.generations[1:]))
        assert not asked.done()
        hold.set()
        response = await asked
    if not stream:
        told = {choice["index"]: choice for choice in response.json()["choices"]}
    else:
        *chunks, _ = events_of(response)
        told = {}
        for chunk in chunks:
            told.setdefault(chunk["choices"][0]["index"], chunk["choices"][0])
    assert sorted(told) == [0, 1, 2]
    assert all(choice["text"].startswith("the cat") for choice in told.values())
    assert all(prompt_scores(choice, count) == [None] + [-1.0] * (count - 1) for choice in told.values())


@pytest.mark.parametrize("stream", [False, True])
async def test_without_the_first_choice_nobody_waits_on(bench: Bench, stream: bool) -> None:
    def script(request: Submit) -> list[Step]:
        failure = Failed(request_id=request.request_id, code="engine_failed", message="its logits are not finite")
        return [*scoring([failure])(request)]

    engine = bench.engine(script)
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/completions", json=ECHO | {"stream": stream})
        error = events_of(response)[-1]["error"] if stream else response.json()["error"]
        assert error["code"] == "engine_failed"
        engine.script = scoring()
        assert (await client.post("/v1/completions", json=ECHO | {"n": 4})).status_code == 200


async def test_a_client_that_leaves_takes_the_waiting_choices_along(bench: Bench) -> None:
    engine = bench.engine(scoring([Wait(asyncio.Event())]))
    async with live(bench, engine, max_queue=0) as url, httpx.AsyncClient(base_url=url) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/completions", json=ECHO, timeout=0.3)
        await until(lambda: engine.cancelled == [engine.submitted[0].request_id])
        engine.script = scoring()
        assert (await client.post("/v1/completions", json=ECHO | {"n": 4})).status_code == 200


async def test_a_choice_that_fell_back_does_not_show_the_scores_of_the_adapter(bench: Bench) -> None:
    digest = bench.publish("support")
    script, count = scoring(), len(bench.ids("the cat"))

    def falling(request: Submit) -> list[Step]:
        steps = list(script(request))
        if len(engine.submitted) == 2:
            steps[0] = started(request, digest=None, fallback="timeout", detail="waited 30 s")
        return steps

    engine = bench.engine(falling)
    async with serving(bench, engine) as client:
        answer = (await client.post("/v1/completions", json=ECHO | {"model": "support"})).json()
    first, fallen, last = answer["choices"]
    assert answer["switchyard"]["fallback"]["reason"] == "timeout"
    assert first["switchyard"]["digest"] == last["switchyard"]["digest"] == digest
    assert prompt_scores(first, count) == prompt_scores(last, count) == [None] + [-1.0] * (count - 1)
    assert prompt_scores(fallen, count) == [None] * count
    assert fallen["text"] == first["text"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": [7] * 100, "n": 100, "prompt_logprobs": 20}, "prompt_logprobs"),
        ("/v1/completions", {"prompt": [7] * 1000, "n": 100, "echo": True, "logprobs": 2}, "logprobs"),
        ("/v1/completions", {"prompt": [[7] * 1000] * 100, "echo": True, "logprobs": 2}, "logprobs"),
        ("/v1/completions", {"prompt": [7] * 9600, "prompt_logprobs": 20}, "prompt_logprobs"),
    ],
)
async def test_more_scores_than_one_answer_may_hold_are_refused_by_their_field(
    bench: Bench, path: str, body: dict[str, Any], field: str
) -> None:
    engine = bench.engine(scoring(), max_model_len=10_000)
    async with serving(bench, engine) as client:
        response = await client.post(path, json={"model": "base", "max_tokens": 1} | body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", field)
    assert "200000" in error["message"]
    assert engine.submitted == []


async def test_a_chat_counts_its_one_prompt_once_and_texts_without_scores_do_not_count(bench: Bench) -> None:
    engine = bench.engine(scoring(), max_model_len=10_000)
    chat = CHAT | {"n": 100, "prompt_logprobs": 20, "messages": [{"role": "user", "content": "hello " * 200}]}
    plain = {"model": "base", "prompt": [7] * 9000, "n": 100, "echo": True, "max_tokens": 1}
    async with serving(bench, engine) as client:
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        assert len(engine.submitted[0].prompt) * 21 * 100 > 200_000
        assert (await client.post("/v1/completions", json=plain)).status_code == 200


def noting(method: Callable[..., Any], threads: list[threading.Thread]) -> Callable[..., Any]:
    """The method, which notes the threads that it runs in."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        return method(*args, **kwargs)

    return noted


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("length", "apart"), [(100, False), (6000, True)])
async def test_large_answers_are_built_beside_the_event_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stream: bool, length: int, apart: bool
) -> None:
    threads: list[threading.Thread] = []
    written = "first" if stream else "whole"
    monkeypatch.setattr(CompletionFormat, written, noting(getattr(CompletionFormat, written), threads))
    monkeypatch.setattr("server.api.generation.choice_text.traced_prompt", noting(traced_prompt, threads))
    engine = bench.engine(scoring(), max_model_len=10_000)
    async with serving(bench, engine) as client:
        body = ECHO | {"prompt": [7] * length, "n": 1, "stream": stream}
        assert (await client.post("/v1/completions", json=body)).status_code == 200
    assert [thread is not threading.current_thread() for thread in threads] == [apart, apart]
