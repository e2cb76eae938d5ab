"""A request with several targets: each is tried in its turn, and the answer says which it was."""

from collections.abc import Mapping
from typing import Any

import pytest

from server.api.generation.prompting import Prompting, Promptings
from server.api.routing.model_names import Target
from server.api.routing.router import Router, Routing
from server.api.text.tokenization import Tokenization
from server.engine.messages import Failed, Submit
from tests.api.harness import Bench, serving
from tests.api.metrics.test_registry import scrape
from tests.api.scripted_engine import Step, saying
from tests.api.test_streams import events_of
from tests.api.tiny_tokenizer import write_tokenizer

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"task": "summarise", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, str]]]:
    """Routes every request to `first`, then `second`, then the base; notes what was asked."""
    noted: list[tuple[str, Mapping[str, str]]] = []

    async def route(router: Router, model: str, labels: Mapping[str, str], *, field: str) -> Routing:
        assert field == "task"
        noted.append((model, labels))
        names = router._names
        targets = (await names.resolve("first"), await names.resolve("second"), await names.resolve("base"))
        return Routing(targets, task="summarise", rule="chain")

    monkeypatch.setattr(Router, "route", route)
    return noted


def unable(bench: Bench, *names: str, **fields: Any) -> Any:
    """These adapters cannot be applied; anything else answers."""

    def script(request: Submit) -> list[Step]:
        if request.adapter is not None and request.adapter.name in names:
            message = "its files are damaged"
            failed = Failed(
                request_id=request.request_id,
                code="adapter_unavailable",
                message=message,
                reason="load_failed",
            )
            return [failed]
        return list(saying(bench.ids("fine"), **fields)(request))

    return script


async def test_the_first_that_can_be_applied_answers(bench: Bench, asked: list[Any]) -> None:
    digests = [bench.publish("first", seed=1), bench.publish("second", seed=2)]
    engine = bench.engine(unable(bench, "first"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"user": "eve"})
        read = await scrape(client)
    body = response.json()
    assert asked == [("task:summarise", {"user": "eve"})]
    assert body["model"] == "task:summarise"
    assert body["switchyard"] == {
        "adapter": "second",
        "digest": digests[1],
        "fallback": None,
        "cached_tokens": 0,
        "task": "summarise",
        "rule": "chain",
        "passed": [
            {"adapter": "first", "digest": digests[0], "reason": "load_failed", "detail": "its files are damaged"}
        ],
    }
    assert response.headers["x-adapter-name"] == "second"
    assert [request.fallback for request in engine.submitted] == ["error", "error"]
    assert len({request.request_id for request in engine.submitted}) == 2
    assert read("switchyard_requests_total", adapter="first", outcome="stop") == 1
    assert read("switchyard_adapter_refusals_total", reason="load_failed") == 0


async def test_only_the_last_has_the_clients_own_policy_and_a_base_at_the_end_says_why_it_answers(
    bench: Bench, asked: list[Any]
) -> None:
    bench.publish("first", seed=1)
    bench.publish("second", seed=2)
    engine = bench.engine(unable(bench, "first", "second"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"fallback": "base"})
        read = await scrape(client)
    assert asked
    assert [request.fallback for request in engine.submitted] == ["error", "error", "base"]
    told = response.json()["switchyard"]
    assert (told["adapter"], [passed["adapter"] for passed in told["passed"]]) == ("base", ["first", "second"])
    assert told["fallback"] == {"reason": "load_failed", "detail": "its files are damaged"}
    assert response.headers["x-adapter-fallback"] == "load_failed"
    assert read("switchyard_adapter_fallbacks_total", reason="load_failed") == 1


async def test_a_client_that_takes_no_fallback_does_not_get_the_base_at_the_end(bench: Bench, asked: list[Any]) -> None:
    bench.publish("first", seed=1)
    bench.publish("second", seed=2)
    engine = bench.engine(unable(bench, "first", "second"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"fallback": "error"})
        read = await scrape(client)
    assert asked
    assert [request.adapter is None for request in engine.submitted] == [False, False]
    assert (response.status_code, response.json()["error"]["code"]) == (503, "adapter_unavailable")
    assert read("switchyard_adapter_refusals_total", reason="load_failed") == 1


async def test_another_failure_is_no_reason_to_try_the_next(bench: Bench, asked: list[Any]) -> None:
    bench.publish("first", seed=1)
    bench.publish("second", seed=2)
    engine = bench.engine(
        lambda request: [Failed(request_id=request.request_id, code="engine_failed", message="broke")]
    )
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    assert asked
    assert response.status_code == 500
    assert len(engine.submitted) == 1


async def test_choices_of_a_stream_are_tried_each_by_itself(bench: Bench, asked: list[Any]) -> None:
    bench.publish("first", seed=1)
    bench.publish("second", seed=2)
    engine = bench.engine(unable(bench, "first"))
    async with serving(bench, engine, max_queue=0) as client:
        for _ in range(2):
            response = await client.post("/v1/chat/completions", json=CHAT | {"n": 4, "stream": True})
            told = [chunk["switchyard"]["adapter"] for chunk in events_of(response)[:-1] if "switchyard" in chunk]
            assert told == ["second"] * 4
    assert asked


async def test_each_target_reads_the_prompt_in_its_own_way(
    bench: Bench, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("first", seed=1)
    bench.publish("second", seed=2)
    template = "{% for message in messages %}{{ message['content'] }}!{% endfor %}"
    own = Prompting(Tokenization.load(write_tokenizer(bench.scratch / "own", chat_template=template)), ("n",))
    of = Promptings.of

    async def prompting(promptings: Promptings, target: Target) -> Prompting:
        return own if target.name == "second" else await of(promptings, target)

    monkeypatch.setattr(Promptings, "of", prompting)
    engine = bench.engine(unable(bench, "first"))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    assert asked
    first, second = engine.submitted
    assert first.prompt != second.prompt == bench.ids("hello!")
    assert response.json()["usage"]["prompt_tokens"] == len(second.prompt)
    assert response.json()["choices"][0]["message"]["content"] == "fi"
