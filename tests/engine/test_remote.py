"""The engine in a process of its own: a crash is an error for the open requests and a restart, not an outage."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.config import Settings
from server.engine.messages import EngineState, Failed, Report, Tokens
from server.engine.remote import ProcessEngine
from server.errors import BaseModelError, ConfigurationError, EngineUnavailable
from tests.lora_adapters import write_lora
from tests.running_engine import answer, answers, submit, version
from tests.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(base, tmp_path_factory.mktemp("adapter"), seed=1)


def settings_for(base: Path, cache: Path, **changes: object) -> Settings:
    values = {"base": str(base), "cache_dir": cache, "kv_cache_bytes": 1 << 20, "threads": 1} | changes
    return Settings(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def process_engine(settings: Settings) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until(condition: object, seconds: float = 60) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.02)


def test_answers_requests_and_reports_over_the_socket(base: Path, adapter: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = ProcessEngine(settings_for(base, tmp_path))
        reports: list[Report] = []
        engine.observe(reports.append)
        with pytest.raises(EngineUnavailable):
            _ = engine.info
        await engine.start()
        try:
            assert engine.info.architecture == "LlamaForCausalLM"
            given = await answers(
                engine, [submit(range(20)), submit(range(20), version(adapter)), submit(range(20), version(adapter))]
            )
            assert [len(got.tokens) for got in given] == [8, 8, 8]
            assert given[1].tokens == given[2].tokens != given[0].tokens
            await until(lambda: any(isinstance(report, EngineState) and not report.running for report in reports))
        finally:
            await engine.stop()
        assert engine.status == "stopped"
        with pytest.raises(EngineUnavailable):
            engine.submit(submit([1, 2]))

    asyncio.run(scenario())


def test_a_killed_engine_fails_its_requests_and_comes_back(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with process_engine(settings_for(base, tmp_path)) as engine:
            generation = engine.submit(submit(range(10), max_tokens=400))
            events = [await anext(generation), await anext(generation)]
            assert isinstance(events[1], Tokens)
            before = engine.process_id
            assert before is not None
            os.kill(before, signal.SIGKILL)
            rest = [event async for event in generation]
            last = rest[-1]
            assert getattr(last, "code", None) == "engine_unavailable"
            with pytest.raises(EngineUnavailable):
                engine.submit(submit([1, 2]))
            await until(lambda: engine.status == "ready")
            assert engine.restarts == 1
            assert engine.process_id != before
            assert len((await answer(engine, submit(range(10)))).tokens) == 8

    asyncio.run(scenario())


def test_gives_up_after_the_restart_limit(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with process_engine(settings_for(base, tmp_path, engine_restart_limit=0)) as engine:
            assert engine.process_id is not None
            os.kill(engine.process_id, signal.SIGKILL)
            await until(lambda: engine.status == "failed")

    asyncio.run(scenario())


def test_a_hung_engine_is_killed_and_started_again(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = settings_for(base, tmp_path).model_copy(
            update={"engine_stall_timeout": 3.0, "adapter_wait_timeout": 2.0}
        )
        async with process_engine(settings) as engine:
            assert engine.process_id is not None
            os.kill(engine.process_id, signal.SIGSTOP)
            hung = await answer(engine, submit(range(10)))
            assert hung.failed is not None
            assert hung.failed.code == "engine_unavailable"
            await until(lambda: engine.status == "ready")
            assert len((await answer(engine, submit(range(10)))).tokens) == 8

    asyncio.run(scenario())


def test_an_engine_that_hangs_while_it_starts_again_is_given_up_for_another(base: Path, tmp_path: Path) -> None:
    def children() -> list[int]:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return [
            int(pid) for pid in listed.split() if b"server.engine.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    async def scenario() -> None:
        settings = settings_for(base, tmp_path).model_copy(update={"engine_restart_timeout": 60.0})
        async with process_engine(settings) as engine:
            engine._settings = settings.model_copy(update={"engine_restart_timeout": 2.0})
            before = engine.process_id
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await until(lambda: any(pid != before for pid in children()))
            os.kill(next(pid for pid in children() if pid != before), signal.SIGSTOP)
            await until(lambda: engine.restarts >= 2)
            engine._settings = settings
            await until(lambda: engine.status == "ready")
            assert len((await answer(engine, submit(range(10)))).tokens) == 8

    asyncio.run(scenario())


def test_a_signal_to_the_whole_group_leaves_the_engine_to_its_parent(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with process_engine(settings_for(base, tmp_path)) as engine:
            assert engine.process_id is not None
            os.kill(engine.process_id, signal.SIGTERM)
            os.kill(engine.process_id, signal.SIGINT)
            assert len((await answer(engine, submit(range(10)))).tokens) == 8
            assert engine.restarts == 0

    asyncio.run(scenario())


def test_stopping_just_after_the_engine_died_ends_every_request(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = ProcessEngine(settings_for(base, tmp_path))
        await engine.start()
        generation = engine.submit(submit(range(10), max_tokens=400))
        assert engine.process_id is not None
        os.kill(engine.process_id, signal.SIGKILL)
        await engine.stop()
        events = [event async for event in generation]
        assert isinstance(events[-1], Failed)
        assert engine.status == "stopped"

    asyncio.run(scenario())


def test_a_module_of_the_working_directory_does_not_run_in_the_engine(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.py").write_text("raise SystemExit('the wrong server')")
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        async with process_engine(settings_for(base, tmp_path)) as engine:
            assert len((await answer(engine, submit(range(10)))).tokens) == 8

    asyncio.run(scenario())


def test_stop_cancels_what_still_runs(base: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = ProcessEngine(settings_for(base, tmp_path))
        await engine.start()
        generation = engine.submit(submit(range(10), max_tokens=450))
        await anext(generation)
        await engine.stop()
        events = [event async for event in generation]
        assert isinstance(events[-1], Tokens)
        assert events[-1].finish_reason == "cancelled"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"base": "/no/such/place"}, BaseModelError, "/no/such/place"),
        ({"kv_cache_bytes": 1}, ConfigurationError, "kv_cache_bytes"),
        ({"max_model_len": 100_000}, ConfigurationError, "max_model_len"),
        ({"device": "cuda"}, ConfigurationError, "cuda"),
    ],
)
def test_a_refusal_to_start_arrives_as_the_same_error(
    changes: dict[str, object], error: type[Exception], words: str, base: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        settings = settings_for(base, tmp_path).model_copy(update=changes)
        engine = ProcessEngine(settings)
        with pytest.raises(error, match=words):
            await engine.start()
        await engine.stop()

    asyncio.run(scenario())


def test_the_engine_process_ends_when_its_parent_is_killed(base: Path, tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from server.config import Settings\n"
        "from server.engine.remote import ProcessEngine\n"
        "async def main():\n"
        "    engine = ProcessEngine(Settings(base=sys.argv[1], cache_dir=sys.argv[2], kv_cache_bytes=1 << 20))\n"
        "    await engine.start()\n"
        "    print(engine.process_id, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(base), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the engine outlived its parent"
        time.sleep(0.05)
