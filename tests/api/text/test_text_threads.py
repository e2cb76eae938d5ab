"""What is done at once, and what in threads."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.api.text.text_threads import TextThreads, is_light
from server.api.text.tokenization import Tokenization
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["x" * 8_000],
        [["x" * 80] * 90, True],
        [[{"role": "user", "content": "hello"}] * 50, {"add_generation_prompt": True}],
    ],
)
def test_little_text_is_light(values: list[object]) -> None:
    assert is_light(*values)


@pytest.mark.parametrize(
    "values",
    [
        ["x" * 9_000],
        ["x" * 5_000, "y" * 5_000],
        [["x" * 8_000] * 128, True],
        [[""] * 2_000],
        [[{"role": "user", "content": ""}] * 1_000],
        [{"a": {"b": ["x" * 9_000]}}],
        [{"k" * 9_000: 1}],
        [list(range(600_000))],
    ],
)
def test_much_of_anything_is_heavy(values: list[object]) -> None:
    assert not is_light(*values)


async def test_all_of_the_threads_at_work_leave_asyncios_own_alone() -> None:
    threads, gate = TextThreads(), threading.Event()
    busy = [asyncio.create_task(threads.run(gate.wait, 10)) for _ in range(64)]
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "free") == "free"
    assert not any(task.done() for task in busy)
    gate.set()
    await asyncio.gather(*busy)
    threads.close()


async def test_closed_threads_take_nothing(base_directory: Any) -> None:
    threads = TextThreads()
    threads.close()
    with pytest.raises(RuntimeError):
        await threads.run(print)


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, bench.engine(saying([]), max_model_len=100_000)) as client:
        yield client


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that texts are encoded in."""
    names, encode = [], Tokenization._encode

    def noted(*arguments: Any) -> list[list[int]]:
        names.append(threading.current_thread().name.rpartition("_")[0])
        return encode(*arguments)

    monkeypatch.setattr(Tokenization, "_encode", noted)
    return names


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "base", "prompt": ["x" * 2_000] * 8, "max_tokens": 1}),
        ("/v1/chat/completions", {"model": "base", "messages": [{"role": "user", "content": ""}] * 1_000}),
        ("/tokenize", {"messages": [{"role": "user", "content": "x"}], "tools": [{"x": "y" * 10_000}]}),
    ],
)
async def test_a_request_is_weighed_as_a_whole(
    client: httpx.AsyncClient, used: list[str], path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert used == ["text"]


async def test_a_small_one_is_done_at_once(client: httpx.AsyncClient, used: list[str]) -> None:
    await client.post("/v1/completions", json={"model": "base", "prompt": ["x", "y"], "max_tokens": 1})
    assert used == [""]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "base", "prompt": "x" * 9_000}, "prompt"),
        ("/v1/completions", {"model": "base", "prompt": ["x", "x" * 9_000]}, "prompt[1]"),
        ("/v1/chat/completions", {"model": "base", "messages": [{"role": "user", "content": "x" * 9_000}]}, "messages"),
        ("/generate", {"inputs": "x" * 9_000}, "inputs"),
        ("/tokenize", {"prompt": "x" * 9_000}, "prompt"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x" * 9_000}]}, "messages"),
    ],
)
async def test_what_cannot_fit_is_refused_by_its_length_alone(
    bench: Bench, used: list[str], path: str, body: dict[str, Any], param: str
) -> None:
    async with serving(bench, bench.engine(saying([]), max_model_len=128)) as client:
        refused = await client.post(path, json=body)
        assert refused.status_code in (400, 422), refused.text
        if path == "/generate":
            assert "inputs has 9000 characters" in refused.json()["error"]
        else:
            error = refused.json()["error"]
            assert (error["code"], error["param"]) == ("context_length_exceeded", param)
        assert used == []
        kept = await client.post("/generate", json={"inputs": "x" * 9_000, "parameters": {"truncate": 8}})
        assert kept.status_code == 200, kept.text
