"""Task routes as clients meet them: canaries, rollbacks, fallbacks, tiers and shadows over HTTP."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import parse_rule
from server.engine.messages import EngineState, Failed, ResidentAdapter, Submit
from tests.api.harness import Bench, serving, until
from tests.api.scripted_engine import ScriptedEngine, Step, Wait, saying, started, tokens

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
ASK = {"model": "task:summarise", "prompt": "hello", "temperature": 0}


@pytest.fixture
def digests(bench: Bench) -> dict[str, str]:
    return {name: bench.publish(name, seed) for seed, name in enumerate(("a", "b", "c"))}


def set_rule(bench: Bench, **rule: Any) -> None:
    TaskDirectory.of_store(bench.store.root).set(TaskName("summarise"), parse_rule(rule))


async def ask(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/completions", json=ASK | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def metric(client: httpx.AsyncClient, line: str) -> float:
    text = (await client.get("/metrics")).text
    return next((float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line)), 0.0)


def report(engine: ScriptedEngine, others: int = 0, *resident: ResidentAdapter, budget: int = 10_000) -> None:
    """The engine has a budget for adapters, of which rows of others use some bytes."""
    other = ResidentAdapter(name="other", digest="sha256:0", rank=4, size_bytes=others, pinned=True)
    engine.report(
        EngineState(
            running=0,
            waiting=0,
            kv_blocks_used=0,
            kv_blocks_total=1,
            prefix_hit_tokens=0,
            prefix_lookup_tokens=0,
            preemptions=0,
            rows_taken_back=0,
            adapter_bytes=others,
            adapter_budget_bytes=budget,
            resident=[other, *resident],
            waiting_adapters=[],
        )
    )


async def test_a_canary_of_ten_percent_over_two_thousand_requests(bench: Bench, digests: dict[str, str]) -> None:
    set_rule(bench, arms=[{"adapter": "a", "weight": 90}, {"adapter": "b", "weight": 10}])
    engine = bench.engine(saying([5]))
    async with serving(bench, engine) as client:
        answered: Counter[str] = Counter()
        for _ in range(100):
            bodies = await asyncio.gather(*(ask(client, max_tokens=1) for _ in range(20)))
            answered.update(body["switchyard"]["arm"] for body in bodies)
        counted = await metric(client, 'switchyard_task_requests_total{arm="b",task="summarise",tier="0"}')
    assert answered["a"] + answered["b"] == 2000
    assert answered["b"] == pytest.approx(200, abs=3)
    assert counted == answered["b"]
    ran = Counter(command.adapter.digest for command in engine.submitted if command.adapter is not None)
    assert ran == {digests["a"]: answered["a"], digests["b"]: answered["b"]}


async def test_a_task_is_named_by_either_field_and_the_answer_says_what_ran(
    bench: Bench, digests: dict[str, str]
) -> None:
    set_rule(bench, arms=[{"adapter": "a@latest"}])
    async with serving(bench, bench.engine(saying([5]))) as client:
        by_model = await ask(client)
        answer = await client.post("/v1/completions", json={"task": "summarise", "prompt": "hello"})
    assert by_model["model"] == answer.json()["model"] == "task:summarise"
    assert by_model["switchyard"] == answer.json()["switchyard"]
    assert by_model["switchyard"] == {
        "adapter": "a",
        "digest": digests["a"],
        "fallback": None,
        "cached_tokens": 0,
        "task": "summarise",
        "rule": "revision 1, arm a@latest",
        "arm": "a@latest",
    }
    assert answer.headers["x-adapter-digest"] == digests["a"]


async def test_an_unknown_task_is_a_404(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([5]))) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"task": "no", "messages": [{"role": "user", "content": "x"}]}
        )
        by_model = await client.post("/v1/completions", json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found")
    assert [found.json()["error"]["param"] for found in (answer, by_model)] == ["task", "model"]


@pytest.mark.usefixtures("digests")
async def test_a_rollback_takes_effect_at_the_next_request(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([5]))) as client:
        await client.put("/v1/tasks/summarise", json={"arms": [{"adapter": "a"}]})
        await client.put("/v1/tasks/summarise", json={"arms": [{"adapter": "b"}]})
        assert (await ask(client))["switchyard"]["adapter"] == "b"
        await client.post("/v1/tasks/summarise/rollback", json={})
        assert (await ask(client))["switchyard"]["adapter"] == "a"


@pytest.mark.usefixtures("digests")
async def test_a_rollback_by_another_process_takes_effect_at_the_next_request(bench: Bench) -> None:
    command = [sys.executable, "-m", "server.cli", "tasks", "rollback", "summarise", "--store", str(bench.store.root)]
    async with serving(bench, bench.engine(saying([5]))) as client:
        await client.put("/v1/tasks/summarise", json={"arms": [{"adapter": "a"}]})
        await client.put("/v1/tasks/summarise", json={"arms": [{"adapter": "b"}]})
        assert (await ask(client))["switchyard"]["adapter"] == "b"
        await asyncio.to_thread(subprocess.check_output, command, cwd=ROOT)
        assert (await ask(client))["switchyard"]["adapter"] == "a"


@pytest.mark.usefixtures("digests")
async def test_rules_outlive_a_restart(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([5]))) as client:
        await client.put("/v1/tasks/summarise", json={"arms": [{"adapter": "b"}]})
    async with serving(bench, bench.engine(saying([5]))) as client:
        assert (await ask(client))["switchyard"]["adapter"] == "b"


@pytest.mark.usefixtures("digests")
async def test_a_user_stays_on_one_arm(bench: Bench) -> None:
    set_rule(bench, arms=[{"adapter": "a"}, {"adapter": "b"}], sticky="user")
    async with serving(bench, bench.engine(saying([5]))) as client:
        for user in range(8):
            bodies = [await ask(client, user=f"user-{user}") for _ in range(4)]
            assert len({body["switchyard"]["arm"] for body in bodies}) == 1


async def test_the_next_adapter_answers_where_the_engine_cannot_apply_one(
    bench: Bench, digests: dict[str, str]
) -> None:
    def script(request: Submit) -> list[Step]:
        if request.adapter is not None and request.adapter.digest == digests["a"]:
            return [
                Failed(
                    request_id=request.request_id,
                    code="adapter_unavailable",
                    message="torn",
                    reason="checksum_mismatch",
                )
            ]
        return [started(request), tokens(request, bench.ids("hi"), "stop")]

    set_rule(bench, arms=[{"adapter": "a"}], fallback=["gone", "b", "base"])
    async with serving(bench, bench.engine(script)) as client:
        origin = (await ask(client))["switchyard"]
        by_reason = 'switchyard_task_fallbacks_total{reason="checksum_mismatch",task="summarise"}'
        assert await metric(client, by_reason) == 1
    assert (origin["adapter"], origin["digest"]) == ("b", digests["b"])
    assert [(passed["adapter"], passed["reason"]) for passed in origin["passed"]] == [("a", "checksum_mismatch")]


async def test_a_high_rank_answers_while_there_is_room_and_a_low_one_under_pressure(
    bench: Bench, digests: dict[str, str]
) -> None:
    set_rule(bench, arms=[{"tiers": [{"adapter": "a"}, {"adapter": "b"}]}], pressure={"hold_seconds": 0})
    sizes = {"a": 400, "b": 100}
    known = [
        ResidentAdapter(name=name, digest=digests[name], rank=4, size_bytes=size, pinned=False)
        for name, size in sizes.items()
    ]
    engine = bench.engine(saying([5]))
    async with serving(bench, engine) as client:
        answers = []
        for others in (0, 800, 0):
            report(engine, others, *known, budget=1000)
            answers.append((await ask(client))["switchyard"])
        steps = [
            await metric(client, f'switchyard_task_tier_steps_total{{direction="{direction}",task="summarise"}}')
            for direction in ("down", "up")
        ]
    assert [(answer["adapter"], answer["arm"], answer["tier"]) for answer in answers] == [
        ("a", "a,b", 0),
        ("b", "a,b", 1),
        ("a", "a,b", 0),
    ]
    assert steps == [1, 1]


def shadow_line(outcome: str) -> str:
    return f'switchyard_shadow_requests_total{{adapter="b",outcome="{outcome}",task="summarise"}}'


async def test_a_shadow_gets_copies_that_are_compared(bench: Bench, digests: dict[str, str]) -> None:
    set_rule(bench, arms=[{"adapter": "a"}], shadow=[{"adapter": "b"}])
    engine = bench.engine(saying(bench.ids("hello world")))
    async with serving(bench, engine) as client:
        report(engine)
        plain = await ask(client, stop=" w")
        async with client.stream("POST", "/v1/completions", json=ASK | {"stream": True}) as stream:
            assert "[DONE]" in (await stream.aread()).decode()
        chance = await ask(client, temperature=1)
        await until(lambda: len(engine.submitted) == 6)
        async with asyncio.timeout(5):
            while await metric(client, shadow_line("stop")) < 3:
                await asyncio.sleep(0.01)
        line = 'switchyard_shadow_comparisons_total{adapter="b",result="same",task="summarise"}'
        assert await metric(client, line) == 2, "where chance chose the tokens, texts are not compared"
        line = 'switchyard_shadow_comparisons_total{adapter="b",result="different",task="summarise"}'
        assert await metric(client, line) == 0
    assert plain["choices"][0]["text"] == "hello"
    assert chance["switchyard"]["adapter"] == "a"
    copies = [command for command in engine.submitted if command.adapter and command.adapter.digest == digests["b"]]
    assert [(copy.fallback, len(copy.prompt)) for copy in copies] == [("error", len(bench.ids("hello")))] * 3


async def test_no_copy_runs_beside_an_answer_and_none_runs_of_a_failed_one(
    bench: Bench, digests: dict[str, str]
) -> None:
    """The engine notes what runs whenever it is handed a request or told to give one up."""
    running: dict[str, str] = {}
    overlaps: list[set[str]] = []

    def script(request: Submit) -> list[Step]:
        assert request.adapter is not None
        kind = "copy" if request.adapter.digest == digests["b"] else "answer"
        for known in engine.cancelled:
            running.pop(known, None)
        for generation, command in zip(engine.generations, engine.submitted, strict=False):
            if generation.ended:
                running.pop(command.request_id, None)
        running[request.request_id] = kind
        overlaps.append(set(running.values()))
        return [
            started(request),
            *(tokens(request, [token]) for token in bench.ids("hello")),
            tokens(request, [], "stop"),
        ]

    engine = bench.engine(script)
    set_rule(bench, arms=[{"adapter": "a"}], shadow=[{"adapter": "b"}])
    async with serving(bench, engine) as client:
        report(engine)

        async def client_that_pauses(number: int) -> None:
            for turn in range(6):
                await ask(client)
                await asyncio.sleep(0.02 * ((number + turn) % 5))

        await asyncio.gather(*(client_that_pauses(number) for number in range(4)))
        async with asyncio.timeout(10):
            while await metric(client, shadow_line("stop")) < 24:
                await asyncio.sleep(0.02)
    assert {"copy"} in overlaps
    assert {"answer", "copy"} not in overlaps


@pytest.mark.usefixtures("digests")
async def test_an_answer_that_failed_or_that_nobody_awaited_is_not_mirrored(bench: Bench) -> None:
    never = asyncio.Event()
    set_rule(bench, arms=[{"adapter": "a"}], shadow=[{"adapter": "b"}])

    def script(request: Submit) -> list[Step]:
        if request.sampling.max_tokens == 1:
            return [Failed(request_id=request.request_id, code="engine_failed", message="no")]
        return [started(request), Wait(never)]

    engine = bench.engine(script)
    async with serving(bench, engine) as client:
        report(engine)
        assert (await client.post("/v1/completions", json=ASK | {"max_tokens": 1})).status_code == 500
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(client, max_tokens=2)
        await until(lambda: len(engine.cancelled) == 1)
        await asyncio.sleep(0.15)
        assert len(engine.submitted) == 2


@pytest.mark.usefixtures("digests")
async def test_the_end_of_the_server_ends_its_copies(bench: Bench) -> None:
    never = asyncio.Event()
    set_rule(bench, arms=[{"adapter": "a"}], shadow=[{"adapter": "b"}])
    engine = bench.engine(
        lambda request: (
            [started(request), Wait(never)]
            if request.fallback == "error"
            else [started(request), tokens(request, [5], "stop")]
        )
    )
    async with serving(bench, engine) as client:
        report(engine)
        await ask(client)
        await until(lambda: len(engine.submitted) == 2)
    assert engine.cancelled == [engine.submitted[1].request_id]
