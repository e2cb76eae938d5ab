"""What the engine is told of sampling: the client's fields, and a target's defaults for those left out."""

from collections.abc import Mapping
from typing import Any

import pytest

from server.api.generation.prompting import Prompting, Promptings
from server.api.routing.model_names import Target
from server.engine.messages import SamplingParams
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"model": "base", "prompt": [10, 11]}


def prompted(
    monkeypatch: pytest.MonkeyPatch, *, stops: tuple[str, ...] = (), sampling: Mapping[str, float] | None = None
) -> None:
    """Adapters have these stop strings and sampling defaults of their own; the base has none."""
    of = Promptings.of

    async def own(promptings: Promptings, target: Target) -> Prompting:
        prompting = await of(promptings, target)
        if target.version is None:
            return prompting
        return Prompting(prompting.tokenization, stops, sampling or {})

    monkeypatch.setattr(Promptings, "of", own)


async def test_every_field_reaches_the_engine(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    fields = {
        "min_p": 0.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.2,
        "logit_bias": {"5": -100, "17": 2.5},
        "min_tokens": 3,
        "max_tokens": 7,
    }
    async with serving(bench, engine) as client:
        assert (await client.post("/v1/completions", json=BODY | fields)).status_code == 200
    assert engine.submitted[0].sampling == SamplingParams(
        max_tokens=7,
        min_p=0.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.2,
        logit_bias={5: -100.0, 17: 2.5},
        min_tokens=3,
    )


async def test_nothing_is_asked_of_the_engine_that_the_client_did_not_ask_for(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json=BODY)
    assert engine.submitted[0].sampling == SamplingParams(max_tokens=16)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"360": 1}}, "logit_bias"),
        ({"stop_token_ids": [360]}, "stop_token_ids[0]"),
        ({"prompt": [[1], [2, 360]]}, "prompt[1][1]"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"min_tokens": 2**63}, "min_tokens"),
    ],
)
async def test_what_does_not_fit_the_base_is_refused_by_name(bench: Bench, fields: dict[str, Any], param: str) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=BODY | fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert engine.submitted == []


async def test_an_adapters_defaults_stand_in_for_what_was_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("support")
    prompted(monkeypatch, sampling={"temperature": 0.2, "top_k": 40, "top_p": 0.8, "min_p": 0.05})
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        for body in ({"model": "support"}, {"model": "support", "temperature": 1.0, "min_p": None}, {}):
            assert (await client.post("/v1/completions", json=BODY | body)).status_code == 200
    own, overruled, base = (request.sampling for request in engine.submitted)
    assert (own.temperature, own.top_k, own.top_p, own.min_p) == (0.2, 40, 0.8, 0.05)
    assert (overruled.temperature, overruled.top_k, overruled.min_p) == (1.0, 40, 0.05)
    assert (base.temperature, base.top_k, base.top_p, base.min_p) == (1.0, 0, 1.0, 0.0)


async def test_an_adapters_stop_strings_are_beside_the_clients(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.publish("support")
    prompted(monkeypatch, stops=("###",))
    engine = bench.engine(saying(bench.ids("one ### two END three")))
    async with serving(bench, engine) as client:
        texts = [
            (await client.post("/v1/completions", json=BODY | fields)).json()["choices"][0]["text"]
            for fields in ({"model": "support"}, {"model": "support", "stop": "one"}, {"stop": "END"})
        ]
    assert texts == ["one ", "", "one ### two "]


async def test_an_adapters_stop_strings_do_not_cut_a_form(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.publish("support")
    prompted(monkeypatch, stops=("###",))
    engine = bench.engine(saying(bench.ids("one ### two END three")))
    bound = BODY | {"model": "support", "guided_regex": "[a-zA-Z# ]*"}
    async with serving(bench, engine) as client:
        texts = [
            (await client.post("/v1/completions", json=bound | fields)).json()["choices"][0]["text"]
            for fields in ({}, {"stop": "END"})
        ]
    assert texts == ["one ### two END three", "one ### two "]


async def test_a_stop_string_may_stay_in_the_text(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("one END two")))
    async with serving(bench, engine) as client:
        body = BODY | {"stop": ["never", "END"], "include_stop_str_in_output": True}
        response = await client.post("/v1/completions", json=body)
    assert response.json()["choices"][0]["text"] == "one END"
    assert response.json()["choices"][0]["finish_reason"] == "stop"


async def test_no_stop_string_ends_the_first_tokens(bench: Bench) -> None:
    ids = bench.ids("END END END")
    count = len(bench.ids("END END"))
    engine = bench.engine(saying(ids, "length"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/completions", json=BODY | {"stop": "END", "min_tokens": count})
    assert response.json()["choices"][0]["text"] == "END END "


async def test_special_tokens_may_stay_in_the_text(bench: Bench) -> None:
    (special,) = bench.ids("<|im_end|>")
    engine = bench.engine(saying([*bench.ids("a"), special, *bench.ids("b")]))
    async with serving(bench, engine) as client:
        texts = [
            (await client.post("/v1/completions", json=BODY | {"skip_special_tokens": skip})).json()["choices"][0][
                "text"
            ]
            for skip in (True, False)
        ]
    assert texts == ["ab", "a<|im_end|>b"]


async def test_the_end_of_a_conversation_may_be_left_open(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "I am"}]
    chat = {"model": "base", "messages": messages, "add_generation_prompt": False}
    async with serving(bench, engine) as client:
        for fields in ({}, {"continue_final_message": True}):
            assert (await client.post("/v1/chat/completions", json=chat | fields)).status_code == 200
    closed, open_ended = (request.prompt for request in engine.submitted)
    written = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nI am"
    assert closed == bench.ids(written + "<|im_end|>\n")
    assert open_ended == bench.ids(written)
