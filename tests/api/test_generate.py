"""`/generate`, `/generate_stream` and `/`: what clients of LoRAX and TGI send, and what they read."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.engine.messages import Failed, SamplingParams
from tests.api.harness import Bench, live, serving
from tests.api.scripted_engine import ScriptedEngine, Wait, saying, saying_with_scores, scored

pytestmark = pytest.mark.anyio

PROMPT = "hello"


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(said(bench, " world, fine"))


def said(bench: Bench, text: str, finish_reason: Any = "stop") -> Any:
    """Every request gets a text whose tokens are scored, and so are the two of its prompt."""
    prompt = [None, *(scored(token_id, -2.0) for token_id in bench.ids(PROMPT)[1:])]
    return saying_with_scores(
        [scored(i, -0.25, [(i, -0.25), (5, -3.0)]) for i in bench.ids(text)], prompt, finish_reason
    )


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine) as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str = "/generate", **parameters: Any) -> httpx.Response:
    return await client.post(path, json={"inputs": PROMPT, "parameters": parameters})


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, in LoRAX's form: `data:` and JSON."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.removeprefix("data:")) for block in blocks]


def sampling(engine: ScriptedEngine) -> SamplingParams:
    return engine.submitted[-1].sampling


async def test_a_text_alone(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/generate", json={"inputs": PROMPT})).json()
    assert set(answer) == {"generated_text", "switchyard"}
    assert answer["generated_text"] == " world, fine"


async def test_details_have_the_tokens_with_their_scores(bench: Bench, client: httpx.AsyncClient) -> None:
    details = (await ask(client, details=True, decoder_input_details=True, return_k_alternatives=2)).json()["details"]
    ids = bench.ids(" world, fine")
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("eos_token", len(ids), None)
    assert details["prompt_tokens"] == len(bench.ids(PROMPT))
    assert [token["id"] for token in details["tokens"]] == ids
    assert "".join(token["text"] for token in details["tokens"]) == " world, fine"
    assert all((token["logprob"], token["special"]) == (-0.25, False) for token in details["tokens"])
    alternatives = details["tokens"][0]["alternative_tokens"]
    assert [(one["id"], one["logprob"]) for one in alternatives] == [(ids[0], -0.25), (5, -3.0)]
    assert [token["id"] for token in details["prefill"]] == bench.ids(PROMPT)
    assert [token["logprob"] for token in details["prefill"]] == [None] + [-2.0] * (len(details["prefill"]) - 1)


async def test_a_stream_has_one_event_a_token_and_one_that_ends_it(bench: Bench, client: httpx.AsyncClient) -> None:
    *written, last = events(await ask(client, "/generate_stream", return_full_text=True))
    assert [event["token"]["id"] for event in written] == bench.ids(" world, fine")
    assert "".join(event["token"]["text"] for event in written) == " world, fine"
    assert all(event["generated_text"] is None and event["details"] is None for event in written)
    assert last["token"] == {"id": 2, "text": "", "logprob": 0.0, "special": True}
    assert last["generated_text"] == "hello world, fine"
    assert last["details"]["finish_reason"] == "eos_token"
    assert last["details"]["generated_tokens"] == len(written)
    assert last["switchyard"]["adapter"] == "base"


async def test_characters_of_several_tokens_come_whole(bench: Bench, engine: ScriptedEngine) -> None:
    engine.script = said(bench, "東京は")
    async with serving(bench, engine) as client:
        *written, last = events(await ask(client, "/generate_stream"))
        details = (await ask(client, details=True)).json()["details"]
    assert len(written) > 3
    assert "".join(event["token"]["text"] for event in written) == last["generated_text"] == "東京は"
    assert "".join(token["text"] for token in details["tokens"]) == "東京は"


async def test_the_root_answers_either_way(client: httpx.AsyncClient) -> None:
    (whole,) = (await client.post("/", json={"inputs": PROMPT, "stream": False})).json()
    assert whole["generated_text"] == " world, fine"
    streamed = await client.post("/", json={"inputs": PROMPT, "stream": True})
    assert events(streamed)[-1]["generated_text"] == " world, fine"


@pytest.mark.parametrize(
    ("finish_reason", "parameters", "told", "text"),
    [
        ("length", {}, "length", " world, fine"),
        ("stop", {}, "eos_token", " world, fine"),
        ("length", {"stop": ["x", "ld"]}, "stop_sequence", " world"),
    ],
)
async def test_why_a_text_ended_is_told_and_a_stop_string_is_part_of_it(
    bench: Bench, engine: ScriptedEngine, finish_reason: str, parameters: dict[str, Any], told: str, text: str
) -> None:
    engine.script = said(bench, " world, fine", finish_reason)
    async with serving(bench, engine) as client:
        answer = (await ask(client, details=True, **parameters)).json()
    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, told)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 3},
        {"do_sample": True, "temperature": 0},
    ],
)
async def test_without_sampling_the_likeliest_token_is_taken(
    client: httpx.AsyncClient, engine: ScriptedEngine, parameters: dict[str, Any]
) -> None:
    answer = (await ask(client, details=True, **parameters)).json()
    assert sampling(engine).temperature == 0
    assert answer["details"]["seed"] is None


async def test_anything_that_samples_does_and_the_seed_is_told(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    answer = (await ask(client, details=True, do_sample=True)).json()
    assert sampling(engine).temperature == 1.0
    assert answer["details"]["seed"] == sampling(engine).seed is not None
    answer = (await ask(client, details=True, temperature=0.5, top_k=5, top_p=0.9, seed=11)).json()
    asked = sampling(engine)
    assert (asked.temperature, asked.top_k, asked.top_p, asked.seed) == (0.5, 5, 0.9, 11)
    assert answer["details"]["seed"] == 11


async def test_every_parameter_reaches_the_engine(
    bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    digest = bench.publish("acme/support")
    answer = await ask(
        client,
        adapter_id="acme/support",
        adapter_source="local",
        max_new_tokens=7,
        repetition_penalty=1.5,
        frequency_penalty=0.5,
        ignore_eos_token=True,
        truncate=1,
        fallback="error",
        best_of=1,
        watermark=False,
        typical_p=None,
    )
    assert answer.json()["switchyard"]["digest"] == digest
    submitted = engine.submitted[-1]
    assert submitted.adapter is not None
    assert (submitted.adapter.digest, submitted.fallback) == (digest, "error")
    assert submitted.prompt == bench.ids(PROMPT)[-1:]
    asked = submitted.sampling
    assert (asked.max_tokens, asked.repetition_penalty, asked.frequency_penalty) == (7, 1.5, 0.5)
    assert asked.ignore_eos


async def test_the_base_has_loraxs_name_too_and_an_answer_the_rest_of_the_context(
    bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    assert (await ask(client, adapter_id="__base_model__")).status_code == 200
    assert sampling(engine).max_tokens == 128 - len(bench.ids(PROMPT))


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        ({}, 400, "validation", "inputs: is required"),
        ({"inputs": ""}, 400, "validation", "inputs"),
        ({"inputs": "x", "parameters": {"temperature": 3}}, 400, "validation", "parameters.temperature"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 0}}, 400, "validation", "parameters.max_new_tokens"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 500}}, 400, "validation", "context"),
        ({"inputs": "x", "parameters": {"best_of": 2}}, 400, "validation", "best_of is not supported"),
        ({"inputs": "x", "parameters": {"adapter_source": "hub"}}, 400, "validation", "adapter_source is not"),
        ({"inputs": "x", "parameters": {"merged_adapters": {}}}, 400, "validation", "merged_adapters is not"),
        ({"inputs": "x", "parameters": {"seed": -1}}, 400, "validation", "parameters.seed"),
        ({"inputs": "x", "parameters": {"stop": ["a"] * 17}}, 400, "validation", "parameters.stop"),
        ({"inputs": "x", "parameters": {"nothing": 1}}, 400, "validation", "nothing is not a field"),
        ({"inputs": "x", "parameters": []}, 400, "validation", "parameters"),
        ({"inputs": "x", "stream": True}, 400, "validation", "/generate_stream"),
        ({"inputs": "x", "parameters": {"adapter_id": "nobody"}}, 404, "not_found", "nobody"),
        ({"inputs": "x", "parameters": {"adapter_id": "a b"}}, 400, "validation", "a b"),
    ],
)
async def test_an_error_has_loraxs_form_and_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, kind: str, says: str
) -> None:
    refused = await client.post("/generate", json=body)
    assert refused.status_code == status
    assert set(refused.json()) == {"error", "error_type"}
    assert refused.json()["error_type"] == kind
    assert says in refused.json()["error"]


async def test_prompt_scores_are_refused_in_a_stream(client: httpx.AsyncClient) -> None:
    refused = await ask(client, "/generate_stream", details=True, decoder_input_details=True)
    assert (refused.status_code, refused.json()["error_type"]) == (400, "validation")


async def test_a_full_queue_is_told_as_overload(bench: Bench) -> None:
    engine = bench.engine(lambda _: [Wait(asyncio.Event())], max_rows=1)
    async with serving(bench, engine, max_queue=0) as client:
        first = asyncio.create_task(ask(client))
        while not engine.submitted:
            await asyncio.sleep(0.01)
        refused = await ask(client)
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        first.cancel()


async def test_a_failure_of_the_engine_is_told_before_and_within_a_stream(bench: Bench) -> None:
    def failed(request: Any) -> Failed:
        return Failed(request_id=request.request_id, code="engine_failed", message="the step failed")

    engine = bench.engine(lambda request: [failed(request)])
    async with serving(bench, engine) as client:
        before = await ask(client)
        engine.script = lambda request: [*said(bench, " w")(request)[:-1], failed(request)]
        within = events(await ask(client, "/generate_stream"))
    assert (before.status_code, before.json()["error_type"]) == (500, "generation")
    assert within[-1] == {"error": "the step failed", "error_type": "generation"}


async def test_an_adapter_id_beside_a_model_names_the_adapter(bench: Bench) -> None:
    digest = bench.publish("support")
    bench.publish("other", seed=1)
    async with serving(bench, bench.engine(saying([])), served_name="org/tiny") as client:
        for model in ({}, {"model": "base"}, {"model": "org/tiny"}, {"model": "support"}):
            body = {"prompt": "x", "adapter_id": "support", **model}
            answer = (await client.post("/v1/completions", json=body)).json()
            assert (answer["model"], answer["switchyard"]["digest"]) == ("support", digest)
        for model in ({"model": "other"}, {"task": "summarise"}):
            body = {"prompt": "x", "adapter_id": "support", **model}
            refused = await client.post("/v1/completions", json=body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "adapter_id")


async def test_llama_cpps_lora_is_refused_with_a_pointer(client: httpx.AsyncClient) -> None:
    body = {"model": "base", "prompt": "x", "lora": [{"id": 0, "scale": 1.0}]}
    refused = (await client.post("/v1/completions", json=body)).json()["error"]
    assert (refused["param"], refused["code"]) == ("lora", "unsupported_parameter")
    assert "name the adapter in `model`" in refused["message"]
    assert (await client.post("/v1/completions", json=body | {"lora": []})).status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_client_of_lorax(bench: Bench, engine: ScriptedEngine) -> None:
    """`lorax-client` itself, where an environment has it; it wants older libraries than the server does."""
    lorax = pytest.importorskip("lorax")
    errors = pytest.importorskip("lorax.errors")
    digest = bench.publish("support")
    async with live(bench, engine) as url:
        client = lorax.Client(url)

        def drive() -> tuple[Any, list[Any]]:
            whole = client.generate(PROMPT, adapter_id="support", max_new_tokens=8, decoder_input_details=True)
            streamed = list(client.generate_stream(PROMPT, adapter_id="support", temperature=0.5, seed=3))
            with pytest.raises(errors.NotFoundError):
                client.generate(PROMPT, adapter_id="nobody")
            with pytest.raises(errors.ValidationError, match="max_new_tokens"):
                client.generate(PROMPT, max_new_tokens=0)
            return whole, streamed

        whole, streamed = await asyncio.to_thread(drive)
        again = await lorax.AsyncClient(url).generate(PROMPT, adapter_id="support")
    assert whole.generated_text == again.generated_text == " world, fine"
    assert whole.details.finish_reason.value == "eos_token"
    assert [token.id for token in whole.details.tokens] == bench.ids(" world, fine")
    assert [token.id for token in whole.details.prefill] == bench.ids(PROMPT)
    assert "".join(event.token.text for event in streamed if not event.token.special) == " world, fine"
    assert (streamed[-1].generated_text, streamed[-1].details.seed) == (" world, fine", 3)
    assert engine.submitted[0].adapter is not None
    assert engine.submitted[0].adapter.digest == digest
