"""The loop with a real model on a thread: what a request may ask for, and how it ends."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from server.config import Settings
from server.engine.batch import Batch
from server.engine.constraint import TokenConstraint
from server.engine.in_process import InProcessEngine
from server.engine.messages import (
    EngineState,
    Forecast,
    ForetoldVersion,
    LoadReport,
    LookupReport,
    PreloadReport,
    Report,
    Started,
    StepReport,
    Tokens,
)
from tests.lora_adapters import write_lora
from tests.running_engine import Answer, answer, answers, running, submit, version
from tests.tiny_models import VOCABULARY, write_tiny_model

Scenario = Callable[[InProcessEngine], Awaitable[None]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(base: Path, cache: Path) -> Callable[[Scenario], list[Report]]:
    """Run a scenario on an engine that must be empty when it ends; the reports it gave."""

    def run_scenario(scenario: Scenario, **settings: Any) -> list[Report]:
        reports: list[Report] = []
        values: dict[str, Any] = {
            "base": str(base),
            "cache_dir": cache,
            "kv_cache_bytes": 1 << 20,
            "threads": 1,
        } | settings

        async def inside() -> None:
            async with running(Settings(**values), reports) as engine:
                await scenario(engine)

        asyncio.run(inside())
        return reports

    return run_scenario


def test_max_tokens_stop_ids_and_the_end_of_sequence(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        free = await answer(engine, submit(range(10), max_tokens=12))
        assert (len(free.tokens), free.finish_reason) == (12, "length")
        stop = free.tokens[5]
        at = free.tokens.index(stop)
        stopped = await answer(engine, submit(range(10), max_tokens=12, stop_token_ids=(stop,)))
        assert (stopped.tokens, stopped.finish_reason) == (free.tokens[:at], "stop")

    run(scenario)


def test_the_end_of_sequence_token_ends_an_answer_unless_ignored(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        free = await answer(engine, submit(range(10), max_tokens=12))
        monkeypatch.setattr(engine.built.loop, "_eos", frozenset({free.tokens[3]}))
        at = free.tokens.index(free.tokens[3])
        ended = await answer(engine, submit(range(10), max_tokens=12, ignore_eos=False))
        assert (ended.tokens, ended.finish_reason) == (free.tokens[:at], "stop")
        assert (await answer(engine, submit(range(10), max_tokens=12))).tokens == free.tokens

    run(scenario)


def test_a_seed_gives_the_same_text_in_any_company(
    run: Callable[..., list[Report]], base: Path, tmp_path: Path
) -> None:
    adapter = version(write_lora(base, tmp_path / "adapter", seed=1))
    sampled = {"temperature": 1.5, "seed": 42, "max_tokens": 16, "top_k": 50, "top_p": 0.95}

    async def scenario(engine: InProcessEngine) -> None:
        alone = await answer(engine, submit(range(12), adapter, **sampled))
        company = [submit(range(number, 40), None, temperature=1.0, max_tokens=9) for number in range(5)]
        together = await answers(engine, [*company[:3], submit(range(12), adapter, **sampled), *company[3:]])
        assert together[3].tokens == alone.tokens
        other = await answer(engine, submit(range(12), adapter, **(sampled | {"seed": 43})))
        assert other.tokens != alone.tokens

    run(scenario)


def test_a_cancelled_request_frees_its_row_at_the_next_step(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        generation = engine.submit(submit(range(10), max_tokens=400))
        await anext(generation)
        generation.cancel()
        assert (await answer(engine, submit(range(5)))).finish_reason == "length"

    reports = run(scenario, max_rows=1)
    assert len([report for report in reports if isinstance(report, StepReport)]) < 100


def test_a_failing_step_ends_the_request_that_caused_it_and_no_neighbour(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        runner = engine.built.loop._runner
        genuine = runner.run

        def failing(batch: Batch) -> torch.Tensor:
            if any(row.sequence.tokens[0] == 99 for row in batch.rows):
                raise RuntimeError("no such luck")
            return genuine(batch)

        monkeypatch.setattr(runner, "run", failing)
        before = await answer(engine, submit(range(10)))
        neighbours = [submit(range(10)) for _ in range(3)]
        *beside, broken = await answers(engine, [*neighbours, submit([99, 1, 2])])
        assert [near.tokens for near in beside] == [before.tokens] * 3
        assert broken.failed is not None
        assert broken.failed.code == "engine_failed"
        assert "RuntimeError" in broken.failed.message
        assert (await answer(engine, submit(range(10)))).tokens == before.tokens

    run(scenario)


def test_stopping_ends_every_request(run: Callable[..., list[Report]]) -> None:
    ends: list[Answer] = []

    async def scenario(engine: InProcessEngine) -> None:
        pending = asyncio.gather(*(answer(engine, submit(range(9), max_tokens=450)) for _ in range(3)))
        await asyncio.sleep(0.1)
        await engine.stop()
        ends.extend(await pending)

    run(scenario)
    assert [end.finish_reason or (end.failed and end.failed.code) for end in ends] == ["cancelled"] * 3


def test_the_last_snapshot_shows_an_idle_engine(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        await answers(engine, [submit(range(number, 30), max_tokens=200, ignore_eos=True) for number in range(6)])
        await asyncio.sleep(0.6)

    states = [report for report in run(scenario) if isinstance(report, EngineState)]
    assert max(state.running for state in states) > 0
    assert (states[-1].running, states[-1].waiting, states[-1].kv_blocks_used) == (0, 0, 0)


def test_every_token_is_its_own_event(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        events = [event async for event in engine.submit(submit(range(10), max_tokens=5))]
        assert [len(event.token_ids) for event in events if isinstance(event, Tokens)] == [1] * 5

    run(scenario)


def test_an_adapter_that_overflows_fails_its_own_requests_and_no_others(
    run: Callable[..., list[Report]], base: Path, tmp_path: Path
) -> None:
    wild = version(write_lora(base, tmp_path / "wild", seed=1, strength=1e30))

    async def scenario(engine: InProcessEngine) -> None:
        alone = await answer(engine, submit(range(10), max_tokens=30))
        broken, fine = await answers(engine, [submit(range(10), wild), submit(range(10), max_tokens=30)])
        assert broken.failed is not None
        assert broken.failed.code == "engine_failed"
        assert "wild" in broken.failed.message
        assert fine.tokens == alone.tokens

    run(scenario)


def test_a_broken_version_is_loaded_once_for_many_requests(
    run: Callable[..., list[Report]], base: Path, tmp_path: Path
) -> None:
    broken = version(write_lora(base, tmp_path / "broken", seed=1))
    (tmp_path / "broken" / "adapter_model.safetensors").write_bytes(b"not what was published")

    async def scenario(engine: InProcessEngine) -> None:
        first = await answer(engine, submit(range(10), broken))
        assert first.started is not None
        assert first.started.fallback == "checksum_mismatch"
        for _ in range(10):
            await answer(engine, submit(range(10), broken, max_tokens=1))

    loads = [report for report in run(scenario) if isinstance(report, LoadReport)]
    assert [load.failure for load in loads] == ["checksum_mismatch"]


def test_a_request_is_announced_before_its_prompt_is_computed(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        runner = engine.built.loop._runner
        genuine, may_run = runner.run, threading.Event()

        def held(batch: Batch) -> torch.Tensor:
            assert may_run.wait(30)
            return genuine(batch)

        monkeypatch.setattr(runner, "run", held)
        generation = engine.submit(submit(range(10)))
        assert isinstance(await asyncio.wait_for(anext(aiter(generation)), 10), Started)
        may_run.set()
        async for _ in generation:
            pass

    run(scenario)


def test_no_token_asked_for_ends_with_the_prompt(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        silent, spoken = await answers(engine, [submit(range(40), max_tokens=0), submit(range(40), max_tokens=3)])
        assert (silent.tokens, silent.finish_reason) == ([], "length")
        assert len(spoken.tokens) == 3
        scored = await answer(engine, submit(range(40), max_tokens=0, prompt_logprobs=0))
        assert [score and score.token_id for score in scored.prompt_scores] == [None, *range(1, 40)]

    run(scenario, max_batch_tokens=16)


def test_wishes_about_tokens_give_the_same_in_any_company(run: Callable[..., list[Report]]) -> None:
    wishes: list[dict[str, Any]] = [
        {"repetition_penalty": 1.4},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"logit_bias": {7: 50.0, 9: -50.0}},
        {"min_p": 0.2, "temperature": 1.0, "seed": 3},
        {"temperature": 1.3, "seed": 5, "repetition_penalty": 0.8},
        {"logprobs": 3},
    ]

    async def scenario(engine: InProcessEngine) -> None:
        alone = [await answer(engine, submit(range(12), max_tokens=16, **wish)) for wish in wishes]
        together = await answers(engine, [submit(range(12), max_tokens=16, **wish) for wish in wishes])
        assert [one.tokens for one in together] == [one.tokens for one in alone]
        free = alone[-1]
        assert [score.token_id for score in free.scores] == free.tokens
        assert all(len(score.top) == 3 and score.top[0][1] == score.logprob for score in free.scores)
        assert all(one.tokens != free.tokens for one in alone[:-1])

    run(scenario)


def test_before_min_tokens_nothing_ends_an_answer(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        free = await answer(engine, submit(range(10), max_tokens=12))
        stop = free.tokens[2]
        stopped = await answer(engine, submit(range(10), max_tokens=12, stop_token_ids=(stop,)))
        held = await answer(engine, submit(range(10), max_tokens=12, stop_token_ids=(stop,), min_tokens=6))
        assert len(stopped.tokens) < 6 <= len(held.tokens)
        assert stop not in held.tokens

    run(scenario)


def test_an_impossible_wish_fails_its_own_request(run: Callable[..., list[Report]]) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        everything = tuple(range(VOCABULARY))
        alone = await answer(engine, submit(range(10)))
        broken, fine = await answers(
            engine, [submit(range(10), min_tokens=2, stop_token_ids=everything), submit(range(10))]
        )
        assert broken.failed is not None
        assert broken.failed.code == "invalid_value"
        assert "min_tokens" in broken.failed.message
        assert fine.tokens == alone.tokens

    run(scenario)


def test_a_forecast_brings_versions_onto_the_device_before_anybody_asks(
    run: Callable[..., list[Report]], base: Path, tmp_path: Path
) -> None:
    hot, warm = (version(write_lora(base, tmp_path / name, seed=seed)) for seed, name in enumerate(("hot", "warm")))

    async def scenario(engine: InProcessEngine) -> None:
        versions = [ForetoldVersion(version=hot, rate=2.0), ForetoldVersion(version=warm, rate=1.0)]
        engine.built.loop.send(Forecast(versions=versions))
        async with asyncio.timeout(20):
            while len(engine.built.loop.residency.resident()) < 2:
                await asyncio.sleep(0.02)
        await answer(engine, submit(range(10), hot))
        await asyncio.sleep(0.3)

    reports = run(scenario)
    assert [(one.name, one.preload) for one in reports if isinstance(one, LoadReport)] == [
        ("hot", True),
        ("warm", True),
    ]
    assert [one.tier for one in reports if isinstance(one, LookupReport)] == ["device"]
    ends = [(one.name, one.outcome) for one in reports if isinstance(one, PreloadReport)]
    assert ends == [("hot", "useful"), ("warm", "wasted")]
    host = next(one for one in reversed(reports) if isinstance(one, EngineState))
    assert {one.name for one in host.host.latest} == {"hot", "warm"}
    assert 0 < host.host_bytes <= host.host_budget_bytes


def hold_a_step(engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Make the next step last until the second event is set; the first says that it has begun."""
    runner = engine.built.loop._runner
    genuine, begun, may_end = runner.run, threading.Event(), threading.Event()

    def held(batch: Batch) -> torch.Tensor:
        begun.set()
        assert may_end.wait(30)
        return genuine(batch)

    monkeypatch.setattr(runner, "run", held)
    return begun, may_end


def test_the_time_of_a_request_runs_while_a_step_does(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        begun, may_end = hold_a_step(engine, monkeypatch)
        running_one = asyncio.create_task(answer(engine, submit(range(10))))
        await asyncio.to_thread(begun.wait, 10)
        late = asyncio.create_task(answer(engine, msgspec.structs.replace(submit(range(5)), timeout=0.05)))
        await asyncio.sleep(0.1)
        may_end.set()
        failed = (await late).failed
        assert failed is not None
        assert failed.code == "deadline_exceeded"
        assert (await running_one).finish_reason == "length"

    run(scenario)


def test_the_tier_of_a_request_is_what_it_was_when_it_came(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch, base: Path, tmp_path: Path
) -> None:
    cold = version(write_lora(base, tmp_path / "cold", seed=1))

    async def scenario(engine: InProcessEngine) -> None:
        begun, may_end = hold_a_step(engine, monkeypatch)
        other = asyncio.create_task(answer(engine, submit(range(10))))
        await asyncio.to_thread(begun.wait, 10)
        asked = asyncio.create_task(answer(engine, submit(range(5), cold)))
        async with asyncio.timeout(10):
            while not engine.built.loop._loader.finished():
                await asyncio.sleep(0.01)
        may_end.set()
        started = (await asked).started
        assert started is not None
        assert started.tier == "store"
        await other

    lookups = [report for report in run(scenario) if isinstance(report, LookupReport)]
    assert [lookup.tier for lookup in lookups] == ["store"]


def test_the_time_of_a_request_runs_while_its_grammar_is_compiled(
    run: Callable[..., list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: InProcessEngine) -> None:
        may_end = threading.Event()

        def compile_grammar(grammar: str) -> TokenConstraint:
            assert may_end.wait(30)
            raise ValueError("nobody waits for it")

        monkeypatch.setattr(engine.built.loop._grammars, "_compile", compile_grammar)
        late = await asyncio.wait_for(
            answer(engine, msgspec.structs.replace(submit(range(5), grammar="any"), timeout=0.05)), 5
        )
        may_end.set()
        assert late.failed is not None
        assert late.failed.code == "deadline_exceeded"
        assert "grammar" in late.failed.message
        assert (await answer(engine, submit(range(5)))).finish_reason == "length"

    run(scenario)
