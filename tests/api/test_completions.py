"""`/v1/completions`: one answer in one piece."""

import pytest

from server.api.protocol.answers import Completion
from server.engine.messages import Failed
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying, started, tokens

pytestmark = pytest.mark.anyio


async def test_an_answer_from_the_base(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids(" Paris."), cached_tokens=3))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "The capital of France is"})
    assert response.status_code == 200
    answer = Completion.model_validate(response.json())
    prompt = len(bench.ids("The capital of France is"))
    generated = len(bench.ids(" Paris."))
    assert answer.model == "base"
    assert answer.id.startswith("cmpl-")
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [(" Paris.", "stop")]
    assert answer.usage is not None
    assert answer.usage.model_dump() == {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert response.json()["switchyard"] == {"adapter": "base", "digest": None, "fallback": None, "cached_tokens": 3}
    assert response.headers["x-adapter-name"] == "base"
    assert response.headers["x-adapter-digest"] == "base"
    assert "x-adapter-fallback" not in response.headers
    assert engine.submitted[0].prompt == bench.ids("The capital of France is")
    assert engine.submitted[0].adapter is None


async def test_an_answer_from_an_adapter_names_it_and_its_digest(bench: Bench) -> None:
    digest = bench.publish("acme/support")
    engine = bench.engine(saying(bench.ids("hello"), "length"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "acme/support", "prompt": "hi"})
    body = response.json()
    assert body["model"] == "acme/support"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["switchyard"]["adapter"] == "acme/support"
    assert body["switchyard"]["digest"] == digest
    assert response.headers["x-adapter-name"] == "acme/support"
    assert response.headers["x-adapter-digest"] == digest
    version = engine.submitted[0].adapter
    assert version is not None
    assert (version.name, version.digest) == ("acme/support", digest)


async def test_a_fallback_is_in_the_body_and_in_the_headers(bench: Bench) -> None:
    bench.publish("support")
    engine = bench.engine(saying(bench.ids("hello"), digest=None, fallback="timeout", detail="waited 30 s"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "support", "prompt": "hi"})
    assert response.status_code == 200
    assert response.json()["switchyard"] == {
        "adapter": "base",
        "digest": None,
        "fallback": {"reason": "timeout", "detail": "waited 30 s"},
        "cached_tokens": 0,
    }
    assert response.headers["x-adapter-name"] == "base"
    assert response.headers["x-adapter-fallback"] == "timeout"


async def test_sampling_reaches_the_engine(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    body = {
        "model": "base",
        "prompt": [10, 11],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "seed": 42,
        "stop_token_ids": [5],
        "ignore_eos": True,
        "fallback": "error",
    }
    async with serving(bench, engine) as client:
        assert (await client.post("/v1/completions", json=body)).status_code == 200
    (request,) = engine.submitted
    assert request.prompt == [10, 11]
    assert request.fallback == "error"
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (7, 0.5, 0.9, 0)
    assert (sampling.seed, sampling.stop_token_ids, sampling.ignore_eos) == (42, (5,), True)


async def test_defaults(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine, fallback="error") as client:
        await client.post("/v1/completions", json={"model": "base", "prompt": "hello", "temperature": None})
    (request,) = engine.submitted
    assert request.fallback == "error"
    assert (request.sampling.max_tokens, request.sampling.temperature, request.sampling.seed) == (16, 1.0, None)


async def test_the_default_limit_is_cut_to_the_rest_of_the_context(bench: Bench) -> None:
    engine = bench.engine(saying([]), max_model_len=10)
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json={"model": "base", "prompt": [7] * 8})
    assert engine.submitted[0].sampling.max_tokens == 2


async def test_a_stop_string_ends_the_text_and_the_generation(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("one two END three")))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "count", "stop": [" END"]})
    body = response.json()
    assert body["choices"][0] == {"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop"}
    assert body["usage"]["completion_tokens"] == len(bench.ids("one two END"))
    assert engine.cancelled == [engine.submitted[0].request_id]


async def test_text_held_for_a_stop_string_is_shown_when_none_came(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("the EN"), "length"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x", "stop": "END"})
    assert response.json()["choices"][0]["text"] == "the EN"
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert engine.cancelled == []


@pytest.mark.parametrize(
    ("code", "status"), [("adapter_unavailable", 503), ("engine_failed", 500), ("engine_unavailable", 503)]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_start_has_its_own_status(
    bench: Bench, code: str, status: int, stream: bool
) -> None:
    engine = bench.engine(
        lambda request: [
            Failed(request_id=request.request_id, code=code, message="no such luck", reason="timeout")  # type: ignore[arg-type]
        ]
    )
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x", "stream": stream})
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["type"]) == (code, "server_error")
    assert error["message"] == "no such luck (timeout)"
    assert ("retry-after" in response.headers) == (code == "engine_unavailable")


async def test_a_failure_in_the_middle_of_a_whole_answer_is_an_error_answer(bench: Bench) -> None:
    engine = bench.engine(
        lambda request: [
            started(request),
            tokens(request, [5]),
            Failed(request_id=request.request_id, code="engine_failed", message="broke"),
        ]
    )
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "broke"


async def test_an_engine_that_stops_ends_its_requests_with_503(bench: Bench) -> None:
    engine = bench.engine(lambda request: [started(request), tokens(request, [5], "cancelled")])
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_unavailable"


async def test_an_engine_that_says_nothing_more_is_an_error(bench: Bench) -> None:
    engine = bench.engine(lambda request: [started(request)])
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"
