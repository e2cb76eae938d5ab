"""Scores of tokens, of the answer's and of the prompt's, in the shapes of OpenAI and vLLM."""

from typing import Any

import pytest

from server.api.protocol.answers import ChatCompletion, ChatCompletionChunk, Completion
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying, saying_with_scores, scored
from tests.api.test_streams import events_of

pytestmark = pytest.mark.anyio

COMPLETION: dict[str, Any] = {"model": "base", "prompt": "hi"}
CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}


async def test_the_scores_of_a_completion(bench: Bench) -> None:
    ids = bench.ids("a b")
    (x,) = bench.ids("x")
    engine = bench.engine(
        saying_with_scores([scored(token, -0.5 - place, [(x, -0.1), (token, -0.5)]) for place, token in enumerate(ids)])
    )
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=COMPLETION | {"logprobs": 1})
    assert engine.submitted[0].sampling.logprobs == 1
    assert engine.submitted[0].sampling.prompt_logprobs is None
    logprobs = Completion.model_validate(response.json()).choices[0].logprobs
    assert logprobs is not None
    texts = [bench.tokenizer.decode([token]) for token in ids]
    assert logprobs.tokens == texts
    assert logprobs.token_logprobs == [-0.5 - place for place in range(len(ids))]
    assert logprobs.top_logprobs[0] == {"x": -0.1, texts[0]: -0.5}
    assert logprobs.text_offset == [sum(map(len, texts[:place])) for place in range(len(texts))]


async def test_without_likely_tokens_each_stands_alone(bench: Bench) -> None:
    ids = bench.ids("a")
    async with serving(bench, bench.engine(saying_with_scores([scored(ids[0])]))) as client:
        response = await client.post("/v1/completions", json=COMPLETION | {"logprobs": 0})
    assert response.json()["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -0.5}]


async def test_a_token_that_ends_inside_a_character(bench: Bench) -> None:
    ids = bench.ids("😀")
    assert len(ids) > 1
    engine = bench.engine(saying_with_scores([scored(token) for token in ids]))
    async with serving(bench, engine) as client:
        whole = (await client.post("/v1/completions", json=COMPLETION | {"logprobs": 0})).json()["choices"][0]
        chat = (await client.post("/v1/chat/completions", json=CHAT | {"logprobs": True})).json()["choices"][0]
    assert whole["text"] == "😀"
    assert whole["logprobs"]["tokens"][0].startswith("bytes:\\xf0")
    assert whole["logprobs"]["text_offset"] == [0] * len(ids)
    content = chat["logprobs"]["content"]
    assert bytes(byte for token in content for byte in token["bytes"]).decode() == "😀"
    assert content[0]["token"].startswith("\\xf0")


async def test_the_scores_of_a_chat(bench: Bench) -> None:
    ids = bench.ids("a b")
    (x,) = bench.ids("x")
    engine = bench.engine(saying_with_scores([scored(token, -0.25, [(token, -0.25), (x, -2.0)]) for token in ids]))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"logprobs": True, "top_logprobs": 2})
    assert engine.submitted[0].sampling.logprobs == 2
    logprobs = ChatCompletion.model_validate(response.json()).choices[0].logprobs
    assert logprobs is not None
    assert "".join(token.token for token in logprobs.content) == "a b"
    first = logprobs.content[0]
    assert (first.logprob, first.bytes) == (-0.25, list(first.token.encode()))
    assert [(likely.token, likely.logprob) for likely in first.top_logprobs] == [(first.token, -0.25), ("x", -2.0)]


async def test_an_impossible_token_is_still_a_number(bench: Bench) -> None:
    engine = bench.engine(saying_with_scores([scored(bench.ids("a")[0], float("-inf"))]))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=COMPLETION | {"logprobs": 0})
    assert response.json()["choices"][0]["logprobs"]["token_logprobs"] == [-9999.0]


@pytest.mark.parametrize("stop", [None, " c"])
async def test_the_chunks_of_a_stream_have_the_scores_of_their_text(bench: Bench, stop: str | None) -> None:
    shown = bench.ids("a 東 b")
    ids = [*shown, *bench.ids(" c d")]
    engine = bench.engine(saying_with_scores([scored(token) for token in ids]))
    body = {"stream": True, "stop": stop}
    async with serving(bench, engine) as client:
        *chunks, _ = events_of(await client.post("/v1/completions", json=COMPLETION | {"logprobs": 0} | body))
        *parts, _ = events_of(await client.post("/v1/chat/completions", json=CHAT | {"logprobs": True} | body))
    choices = [Completion.model_validate(chunk).choices[0] for chunk in chunks]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.tokens]
    offsets = [offset for choice in choices if choice.logprobs for offset in choice.logprobs.text_offset]
    expected = len(ids if stop is None else shown)
    assert len(tokens) == expected
    assert offsets == sorted(offsets)
    text = "".join(choice.text for choice in choices)
    for choice in choices:
        if choice.logprobs and choice.text:
            assert text[choice.logprobs.text_offset[0] :].startswith(choice.text[:1])
    content = [
        token
        for part in parts
        if (logprobs := ChatCompletionChunk.model_validate(part).choices[0].logprobs)
        for token in logprobs.content
    ]
    assert len(content) == expected
    assert bytes(byte for token in content for byte in token.bytes).decode() == text


async def test_an_echo_puts_the_prompt_and_its_scores_before_the_text(bench: Bench) -> None:
    prompt, ids = bench.ids("the cat"), bench.ids(" sat")
    scores = [None, *(scored(token, -1.0, [(token, -1.0)]) for token in prompt[1:])]
    engine = bench.engine(saying_with_scores([scored(token) for token in ids], scores))
    async with serving(bench, engine) as client:
        body = COMPLETION | {"prompt": "the cat", "echo": True, "logprobs": 1}
        whole = (await client.post("/v1/completions", json=body)).json()
        *chunks, _ = events_of(await client.post("/v1/completions", json=body | {"stream": True}))
        bare = (await client.post("/v1/completions", json=body | {"logprobs": None})).json()
    assert engine.submitted[0].sampling.prompt_logprobs == 1
    assert engine.submitted[2].sampling.prompt_logprobs is None
    (choice,) = whole["choices"]
    assert choice["text"] == "the cat sat"
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == "the cat sat"
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["token_logprobs"][1] == -1.0
    assert logprobs["text_offset"][len(prompt)] == len("the cat")
    assert whole["usage"]["completion_tokens"] == len(ids)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "the cat sat"
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    assert [token for part in streamed for token in part["tokens"]] == logprobs["tokens"]
    assert (bare["choices"][0]["text"], bare["choices"][0]["logprobs"]) == ("the cat sat", None)


async def test_a_prompt_is_scored_without_any_token_generated(bench: Bench) -> None:
    prompt = bench.ids("the cat")
    engine = bench.engine(saying_with_scores([], [None, *(scored(token) for token in prompt[1:])], "length"))
    async with serving(bench, engine) as client:
        body = COMPLETION | {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 0}
        response = await client.post("/v1/completions", json=body)
        too_long = await client.post("/v1/completions", json=body | {"prompt": [7] * 129})
        as_long_as_it_may_be = await client.post("/v1/completions", json=body | {"prompt": [7] * 128})
    assert engine.submitted[0].sampling.max_tokens == 0
    assert response.json()["choices"][0]["text"] == "the cat"
    assert len(response.json()["choices"][0]["logprobs"]["tokens"]) == len(prompt)
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert response.json()["usage"]["completion_tokens"] == 0
    assert (too_long.status_code, as_long_as_it_may_be.status_code) == (400, 200)


async def test_the_scores_of_a_prompt_as_vllm_writes_them(bench: Bench) -> None:
    prompt = bench.ids("the cat")
    likely = bench.ids("x")[0]
    scores = [None, *(scored(token, -3.0, [(likely, -0.5), (token, -3.0)]) for token in prompt[1:])]
    engine = bench.engine(saying_with_scores([scored(5)], scores))
    async with serving(bench, engine) as client:
        body = {"prompt": "the cat", "prompt_logprobs": 2}
        told = (await client.post("/v1/completions", json=COMPLETION | body)).json()["choices"][0]["prompt_logprobs"]
        one = (await client.post("/v1/completions", json=COMPLETION | body | {"prompt_logprobs": 1})).json()
        chat = await client.post("/v1/chat/completions", json=CHAT | {"prompt_logprobs": 2})
    assert engine.submitted[0].sampling.prompt_logprobs == 2
    assert engine.submitted[0].sampling.logprobs is None
    assert told[0] is None
    assert told[1] == {
        str(prompt[1]): {"logprob": -3.0, "rank": 2, "decoded_token": bench.tokenizer.decode([prompt[1]])},
        str(likely): {"logprob": -0.5, "rank": 1, "decoded_token": "x"},
    }
    assert len(told) == len(prompt)
    assert len(one["choices"][0]["prompt_logprobs"][1]) == 2
    assert ChatCompletion.model_validate(chat.json()).prompt_logprobs is not None


async def test_token_ids_of_prompt_and_text(bench: Bench) -> None:
    ids = bench.ids("one two")
    async with serving(bench, bench.engine(saying(ids))) as client:
        body = {"return_token_ids": True}
        whole = (await client.post("/v1/completions", json=COMPLETION | body)).json()
        chat = (await client.post("/v1/chat/completions", json=CHAT | body)).json()
        *chunks, _ = events_of(await client.post("/v1/completions", json=COMPLETION | body | {"stream": True}))
        *parts, _ = events_of(await client.post("/v1/chat/completions", json=CHAT | body | {"stream": True}))
    assert (whole["choices"][0]["prompt_token_ids"], whole["choices"][0]["token_ids"]) == (bench.ids("hi"), ids)
    assert chat["choices"][0]["token_ids"] == ids
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]
    assert chunks[0]["choices"][0]["prompt_token_ids"] == bench.ids("hi")
    assert parts[0]["prompt_token_ids"] == chat["prompt_token_ids"]
    for stream in (chunks, parts):
        assert [token for chunk in stream for token in chunk["choices"][0]["token_ids"]] == ids


async def test_tokens_by_their_ids(bench: Bench) -> None:
    (token,) = bench.ids("a")
    engine = bench.engine(saying_with_scores([scored(token, -1.0, [(token, -1.0)])]))
    body = {"return_tokens_as_token_ids": True}
    async with serving(bench, engine) as client:
        whole = (await client.post("/v1/completions", json=COMPLETION | {"logprobs": 1} | body)).json()
        chat = (await client.post("/v1/chat/completions", json=CHAT | {"logprobs": True} | body)).json()
    assert whole["choices"][0]["logprobs"]["tokens"] == [f"token_id:{token}"]
    assert chat["choices"][0]["logprobs"]["content"][0]["token"] == f"token_id:{token}"
