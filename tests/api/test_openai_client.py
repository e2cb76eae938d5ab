"""The `openai` client against a real server: what its users write works unchanged."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from server.api.constraints.constraining import Constraining
from server.engine.messages import Failed
from tests.api.harness import Bench, live
from tests.api.scripted_engine import ScriptedEngine, saying, saying_with_scores, scored, started, tokens
from tests.api.test_tool_calls import BarReader

pytestmark = pytest.mark.anyio

KEY = "a key"
HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying(bench.ids("I am fine, thank you.")), max_model_len=1024)


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[openai.AsyncOpenAI]:
    bench.publish("acme/support")
    async with (
        live(bench, engine, api_key=KEY, max_body_bytes=65_536) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield client


async def test_a_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="acme/support", messages=HELLO)
    assert answer.choices[0].message.content == "I am fine, thank you."
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.model_extra is not None
    assert answer.model_extra["switchyard"]["adapter"] == "acme/support"


async def test_a_chat_as_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="acme/support", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "I am fine, thank you."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_the_clients_own_stream_helper(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="acme/support", messages=HELLO) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "I am fine, thank you."


async def test_completions_whole_and_as_a_stream(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="base", prompt="hello", stop=["thank"], seed=7)
    assert whole.choices[0].text == "I am fine, "
    stream = await client.completions.create(model="base", prompt="hello", stop="thank", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "I am fine, "


async def test_several_choices_with_scores(client: openai.AsyncOpenAI, engine: ScriptedEngine, bench: Bench) -> None:
    ids = bench.ids("fine")
    engine.script = saying_with_scores([scored(token, -0.5, [(token, -0.5), (5, -1.0)]) for token in ids])
    chat = await client.chat.completions.create(model="base", messages=HELLO, n=2, logprobs=True, top_logprobs=2)
    for choice in chat.choices:
        assert choice.message.content == "fine"
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert [token.logprob for token in choice.logprobs.content] == [-0.5] * len(ids)
        assert len(choice.logprobs.content[0].top_logprobs) == 2
    text = await client.completions.create(model="base", prompt=["a", "b"], n=2, logprobs=2, best_of=2)
    assert [choice.index for choice in text.choices] == [0, 1, 2, 3]
    assert text.choices[3].logprobs is not None
    assert text.choices[3].logprobs.tokens is not None
    assert "".join(text.choices[3].logprobs.tokens) == "fine"
    stream = await client.chat.completions.create(
        model="base", messages=HELLO, n=2, logprobs=True, stream=True, max_completion_tokens=5
    )
    texts = {0: "", 1: ""}
    async for chunk in stream:
        for part in chunk.choices:
            texts[part.index] += part.delta.content or ""
    assert texts == {0: "fine", 1: "fine"}


async def test_the_clients_own_stream_helper_reads_calls_and_scores(
    client: openai.AsyncOpenAI, engine: ScriptedEngine, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def constraint_of(*_: object) -> Constraining:
        return Constraining(reader=BarReader)

    monkeypatch.setattr("server.api.generation.generation_endpoint.constraint_of", constraint_of)
    engine.script = saying_with_scores([scored(token) for token in bench.ids("ask|{}|{}")])
    async with client.chat.completions.stream(model="base", messages=HELLO, logprobs=True) as stream:
        async for _ in stream:
            pass
        message = (await stream.get_final_completion()).choices[0].message
    assert message.content == "ask"
    assert message.tool_calls is not None
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [("weather", "{}")] * 2
    assert message.model_dump()["tool_calls"][0]["id"] == "call_1"


async def test_an_answer_with_calls_may_be_sent_back(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    answer = openai.types.chat.ChatCompletionMessage.model_validate({"role": "assistant", "tool_calls": [call]})
    messages: list[Any] = [*HELLO, answer, {"role": "tool", "tool_call_id": "1", "content": "sunny"}]
    await client.chat.completions.create(model="base", messages=messages)
    assert len(engine.submitted) == 1


async def test_the_headers_say_what_answered(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="acme/support", messages=HELLO)
    assert raw.headers["x-adapter-name"] == "acme/support"
    assert raw.headers["x-adapter-digest"].startswith("sha256:")
    assert raw.request_id == raw.headers["x-request-id"]


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["org/tiny", "acme/support"]
    assert (await client.models.retrieve("acme/support")).owned_by == "acme"


async def test_each_error_is_the_clients_own_kind(bench: Bench, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="acme/suport", messages=HELLO)
    assert missing.value.code == "model_not_found"
    assert "did you mean" in missing.value.message
    with pytest.raises(openai.BadRequestError) as unsupported:
        await client.chat.completions.create(model="base", messages=HELLO, store=True)
    assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", "store")
    with pytest.raises(openai.BadRequestError) as too_long:
        await client.chat.completions.create(model="base", messages=HELLO, max_tokens=4000)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="another key").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.APIStatusError) as large:
        await client.completions.create(model="base", prompt="x" * 70_000)
    assert large.value.status_code == 413


async def test_a_full_queue_is_a_rate_limit_error(bench: Bench) -> None:
    async with (
        live(bench, bench.engine(saying([]), max_rows=0), max_queue=0) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as full,
    ):
        with pytest.raises(openai.RateLimitError) as refused:
            await full.chat.completions.create(model="base", messages=HELLO)
    assert refused.value.code == "queue_full"


async def test_an_unavailable_adapter_is_an_internal_server_error(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.script = lambda request: [
        Failed(request_id=request.request_id, code="adapter_unavailable", message="NaN weights", reason="load_failed")
    ]
    with pytest.raises(openai.InternalServerError) as unavailable:
        await client.chat.completions.create(model="acme/support", messages=HELLO, extra_body={"fallback": "error"})
    assert (unavailable.value.status_code, unavailable.value.code) == (503, "adapter_unavailable")
    assert engine.submitted[-1].fallback == "error"


async def test_a_failure_in_a_stream_is_raised_by_the_client(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.script = lambda request: [
        started(request),
        tokens(request, [40, 41]),
        Failed(request_id=request.request_id, code="engine_unavailable", message="the engine died"),
    ]
    stream = await client.chat.completions.create(model="base", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="the engine died"):
        async for _ in stream:
            pass
