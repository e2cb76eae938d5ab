"""`timeout` and `priority` of a request: what the engine is told, and what a client hears that came too late."""

from typing import Any

import pytest

from server.engine.messages import Failed, Submit
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import Pause, Step, saying, started, tokens

pytestmark = pytest.mark.anyio

LATE = "timeout: no row was free"


def late(request: Submit) -> Failed:
    return Failed(request_id=request.request_id, code="deadline_exceeded", message=LATE)


async def test_without_them_a_request_has_neither(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("x")))
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
    (submitted,) = engine.submitted
    assert (submitted.tenant, submitted.priority, submitted.timeout) == ("", 0, None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "acme/support", "prompt": "x", "priority": -7, "timeout": 5}),
        (
            "/v1/chat/completions",
            {"model": "acme/support", "messages": [{"role": "user", "content": "x"}], "priority": -7, "timeout": 5.0},
        ),
        ("/generate", {"inputs": "x", "parameters": {"adapter_id": "acme/support", "priority": -7, "timeout": 5}}),
    ],
)
async def test_the_lower_number_on_the_wire_is_the_higher_priority_and_the_tenant_is_the_adapters(
    bench: Bench, path: str, body: dict[str, Any]
) -> None:
    bench.publish("acme/support")
    engine = bench.engine(saying(bench.ids("x")))
    async with serving(bench, engine) as client:
        response = await client.post(path, json=body)
    assert response.status_code == 200
    (submitted,) = engine.submitted
    assert (submitted.tenant, submitted.priority) == ("acme", 7)
    assert submitted.timeout is not None
    assert 0 < submitted.timeout < 5


@pytest.mark.parametrize(
    ("field", "value"),
    [("timeout", 0), ("timeout", -1), ("timeout", 3601), ("timeout", "5"), ("priority", 101), ("priority", 0.5)],
)
async def test_what_is_out_of_range_is_a_400_that_names_the_field(bench: Bench, field: str, value: object) -> None:
    async with serving(bench, bench.engine(saying([5]))) as client:
        response = await client.post("/v1/completions", json={"model": "base", "prompt": "x", field: value})
        lorax = await client.post("/generate", json={"inputs": "x", "parameters": {field: value}})
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
    assert lorax.status_code == 400
    assert field in lorax.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_before_the_start_is_a_504_that_names_the_field(bench: Bench, stream: bool) -> None:
    engine = bench.engine(lambda request: [late(request)])
    async with serving(bench, engine) as client:
        response = await client.post(
            "/v1/completions", json={"model": "base", "prompt": "x", "stream": stream, "timeout": 1}
        )
        metrics = (await client.get("/metrics")).text
    assert response.status_code == 504
    error = response.json()["error"]
    assert (error["code"], error["message"]) == ("deadline_exceeded", LATE)
    assert "switchyard_deadline_exceeded_total 1.0" in metrics


async def test_a_deadline_in_the_middle_of_a_stream_is_an_error_chunk(bench: Bench) -> None:
    engine = bench.engine(lambda request: [started(request), tokens(request, bench.ids("hello")), late(request)])
    async with serving(bench, engine) as client:
        response = await client.post(
            "/v1/completions", json={"model": "base", "prompt": "x", "stream": True, "timeout": 1}
        )
    assert response.status_code == 200
    assert '"deadline_exceeded"' in response.text
    assert 'finish_reason": "' not in response.text


async def test_the_time_is_that_of_the_whole_request_across_its_attempts(bench: Bench) -> None:
    for name in ("first", "second"):
        bench.publish(name, seed=len(name))
    asked: list[Submit] = []

    def script(request: Submit) -> list[Step]:
        asked.append(request)
        if len(asked) == 1:
            failed = Failed(
                request_id=request.request_id, code="adapter_unavailable", message="torn", reason="load_failed"
            )
            return [Pause(0.2), failed]
        return [started(request), tokens(request, [], "stop")]

    engine = bench.engine(script)
    async with serving(bench, engine) as client:
        task = {"arms": [{"adapter": "first"}], "fallback": ["second"]}
        assert (await client.put("/v1/tasks/support", json=task)).status_code < 300
        response = await client.post("/v1/completions", json={"model": "task:support", "prompt": "x", "timeout": 10})
    assert response.status_code == 200, response.text
    assert [request.adapter.name for request in asked if request.adapter] == ["first", "second"]
    assert asked[0].timeout is not None
    assert asked[1].timeout is not None
    assert asked[1].timeout <= asked[0].timeout - 0.19


async def test_tokens_are_counted_by_tenant(bench: Bench) -> None:
    bench.publish("acme/support")
    engine = bench.engine(saying([5, 6, 7]))
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json={"model": "acme/support", "prompt": "x"})
        metrics = (await client.get("/metrics")).text
    expected = float(len(engine.submitted[0].prompt) + 3)
    assert f'switchyard_tenant_tokens_total{{tenant="acme"}} {expected}' in metrics
