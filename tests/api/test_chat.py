"""`/v1/chat/completions`: the conversation as the template writes it, the answer as a message."""

import pytest

from server.api.protocol.answers import ChatCompletion
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]


async def test_an_answer_is_an_assistant_message(bench: Bench) -> None:
    digest = bench.publish("support")
    engine = bench.engine(saying(bench.ids("I am fine.")))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json={"model": "support", "messages": HELLO})
    answer = ChatCompletion.model_validate(response.json())
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.content == "I am fine."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.switchyard.digest == digest


async def test_the_template_writes_the_special_tokens_and_no_others_are_added(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
    ]
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json={"model": "base", "messages": messages})
    assert response.status_code == 200
    written = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\none\ntwo<|im_end|>\n<|im_start|>assistant\n"
    assert engine.submitted[0].prompt == bench.ids(written)


async def test_without_a_limit_an_answer_may_fill_the_context(bench: Bench) -> None:
    engine = bench.engine(saying([]), max_model_len=100)
    async with serving(bench, engine) as client:
        await client.post("/v1/chat/completions", json={"model": "base", "messages": HELLO})
    request = engine.submitted[0]
    assert request.sampling.max_tokens == 100 - len(request.prompt)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_both_names_of_the_limit_work(bench: Bench, field: str) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        await client.post("/v1/chat/completions", json={"model": "base", "messages": HELLO, field: 3})
        too_many = await client.post("/v1/chat/completions", json={"model": "base", "messages": HELLO, field: 1000})
    assert engine.submitted[0].sampling.max_tokens == 3
    assert too_many.status_code == 400
    assert too_many.json()["error"]["param"] == field


async def test_a_conversation_that_the_template_refuses_is_the_clients_error(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    messages = [{"role": "assistant", "content": "me first"}]
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json={"model": "base", "messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"
    assert "no conversation starts with the assistant" in response.json()["error"]["message"]


async def test_a_conversation_longer_than_the_context_is_refused_with_both_numbers(bench: Bench) -> None:
    engine = bench.engine(saying([]), max_model_len=8)
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json={"model": "base", "messages": HELLO * 5})
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "8" in error["message"]
    assert engine.submitted == []
