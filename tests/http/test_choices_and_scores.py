"""Several choices, scores, echo and token ids, over HTTP from a real engine."""

import itertools
from typing import Any

import pytest

from tests.http.client import PROMPT, complete
from tests.http.real_server import RealServer

pytestmark = pytest.mark.usefixtures("adapters")


def answer(server: RealServer, model: str, prompt: Any = PROMPT, **fields: Any) -> dict[str, Any]:
    response = complete(server, model, prompt, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def texts(body: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def test_greedy_choices_are_alike_and_are_what_one_alone_is(server: RealServer) -> None:
    alone = texts(answer(server, "red"))
    assert texts(answer(server, "red", n=3)) == alone * 3


def test_several_prompts_are_what_each_alone_is(server: RealServer) -> None:
    prompts = [PROMPT, "Red, green", "One two three"]
    assert texts(answer(server, "red", prompts)) == [texts(answer(server, "red", prompt))[0] for prompt in prompts]


def test_a_seed_reproduces_every_choice_in_any_company(server: RealServer) -> None:
    sampled: dict[str, Any] = {"temperature": 1.3, "seed": 11}
    first = texts(answer(server, "green", n=4, **sampled))
    assert len(set(first)) > 1
    assert texts(answer(server, "green", n=4, **sampled)) == first
    assert texts(answer(server, "green", n=2, **sampled)) == first[:2]
    assert texts(answer(server, "green", [PROMPT, "other"], n=4, **sampled))[:4] == first
    assert texts(answer(server, "green", **sampled)) == first[:1]


def test_an_echo_scores_what_was_generated_as_its_generation_did(server: RealServer) -> None:
    made = answer(server, "blue", logprobs=3, return_token_ids=True)["choices"][0]
    ids = made["prompt_token_ids"] + made["token_ids"]
    scored = answer(server, "blue", ids, max_tokens=0, echo=True, logprobs=3)["choices"][0]
    count = len(made["token_ids"])
    assert scored["logprobs"]["token_logprobs"][-count:] == pytest.approx(made["logprobs"]["token_logprobs"], abs=1e-3)
    assert scored["logprobs"]["token_logprobs"][0] is None
    assert scored["logprobs"]["tokens"][-count:] == made["logprobs"]["tokens"]
    assert scored["finish_reason"] == "length"
    # A greedy token is the likeliest of its place.
    for own, likeliest in zip(made["logprobs"]["token_logprobs"], made["logprobs"]["top_logprobs"], strict=True):
        assert own == max(likeliest.values())
        assert len(likeliest) <= 4


def test_prompt_ids_round_trip(server: RealServer) -> None:
    ids = answer(server, "base", max_tokens=1, return_token_ids=True)["choices"][0]["prompt_token_ids"]
    told = answer(server, "base", ids, max_tokens=0, echo=True, return_token_ids=True)["choices"][0]
    assert told["prompt_token_ids"] == told["token_ids"] == ids
    assert told["text"].endswith(PROMPT)


def test_text_offsets_lead_to_the_tokens(server: RealServer) -> None:
    choice = answer(server, "red", echo=True, logprobs=0, max_tokens=8)["choices"][0]
    offsets, spelt = choice["logprobs"]["text_offset"], choice["logprobs"]["tokens"]
    assert choice["text"].startswith(PROMPT)
    for (start, end), token in zip(itertools.pairwise([*offsets, len(choice["text"])]), spelt, strict=True):
        if not token.startswith("bytes:") and start < end:
            assert choice["text"][start:end] == token


def test_scores_do_not_depend_on_penalties(server: RealServer) -> None:
    plain = answer(server, "red", max_tokens=1, logprobs=5)["choices"][0]["logprobs"]["top_logprobs"][0]
    fields = {"presence_penalty": 2, "repetition_penalty": 2.0, "temperature": 1.5, "seed": 3}
    adjusted = answer(server, "red", max_tokens=1, logprobs=5, **fields)["choices"][0]["logprobs"]["top_logprobs"][0]
    assert {name: adjusted[name] for name in plain if name in adjusted} == pytest.approx(plain, abs=1e-4)


def test_a_bias_chooses_and_bans(server: RealServer) -> None:
    ids = answer(server, "base", return_token_ids=True)["choices"][0]["token_ids"]
    banned = answer(server, "base", return_token_ids=True, logit_bias={str(ids[0]): -100})["choices"][0]["token_ids"]
    forced = answer(server, "base", return_token_ids=True, logit_bias={"77": 100})["choices"][0]["token_ids"]
    assert ids[0] not in banned
    assert set(forced) == {77}


def test_a_failed_request_leaves_nothing_behind(server: RealServer) -> None:
    assert complete(server, "red", n=3, logit_bias={"999999": 1}).status_code == 400
    assert complete(server, "red", n=128, max_tokens=1).status_code in (200, 400, 429)
    server.wait_idle()
