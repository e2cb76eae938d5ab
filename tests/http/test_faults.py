"""What breaks is said, and breaks nothing else: every request ends with an answer, a reported fallback or an error."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters_store import AdapterStore, parse_adapter_name
from tests.http.client import body, complete, stream, text_of
from tests.http.real_server import RealServer, serving
from tests.lora_adapters import write_lora


def upload(server: RealServer, name: str, directory: Path) -> httpx.Response:
    files = [("files", (path.name, path.read_bytes())) for path in sorted(directory.glob("adapter_*"))]
    return httpx.put(f"{server.url}/v1/adapters/{name}", files=files, timeout=60)


def rewrite(directory: Path, change: Any) -> None:
    """Change the tensors of an adapter and save them again."""
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def truncate(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def poison(directory: Path) -> None:
    rewrite(directory, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(float("nan")))


def misshape(directory: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        key = next(key for key in tensors if "lora_B" in key)
        tensors[key] = tensors[key][:-1].contiguous()

    rewrite(directory, change)


def pickle(directory: Path) -> None:
    torch.save(load_file(directory / "adapter_model.safetensors"), directory / "adapter_model.bin")
    (directory / "adapter_model.safetensors").unlink()


def unparsable(directory: Path) -> None:
    (directory / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def other_method(directory: Path) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "truncated"),
        (poison, "NaN"),
        (misshape, "lora_B"),
        (pickle, "safetensors"),
        (unparsable, "adapter_config.json"),
        (other_method, "use_dora"),
    ],
)
def test_a_broken_upload_is_refused_with_the_reason(
    damage: Any, words: str, server: RealServer, base: Path, tmp_path: Path
) -> None:
    directory = write_lora(base, tmp_path / "adapter", seed=3)
    damage(directory)
    answer = upload(server, "broken", directory)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] in ("invalid_adapter", "invalid_value")
    assert words in error["message"]
    assert str(tmp_path) not in error["message"]
    assert str(server.store) not in error["message"]
    assert complete(server, "broken").status_code == 404


def test_a_rank_beyond_the_limit_is_refused(server: RealServer, base: Path, tmp_path: Path) -> None:
    answer = upload(server, "wide", write_lora(base, tmp_path / "wide", seed=3, r=300, targets=("q_proj",)))
    assert answer.status_code == 413
    assert "256" in answer.json()["error"]["message"]


def test_an_upload_is_served_at_once_and_gone_when_deleted(server: RealServer, base: Path, tmp_path: Path) -> None:
    directory = write_lora(base, tmp_path / "adapter", seed=4, strength=0.2)
    first = upload(server, "team/uploaded", directory)
    assert first.status_code == 201
    assert complete(server, "team/uploaded").json()["switchyard"]["digest"] == first.json()["digest"]
    assert upload(server, "team/uploaded", directory).status_code == 200
    assert httpx.delete(f"{server.url}/v1/adapters/team/uploaded").status_code == 200
    assert complete(server, "team/uploaded").status_code == 404


def published(server: RealServer, base: Path, directory: Path, name: str, seed: int) -> Path:
    """Publish an adapter behind the server's back and return its version's directory."""
    store = AdapterStore(server.store)
    version = store.publish(parse_adapter_name(name), write_lora(base, directory, seed=seed)).version
    return Path(version.directory)


def flip_a_bit(version: Path) -> None:
    path = version / "adapter_model.safetensors"
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def cut_short(version: Path) -> None:
    path = version / "adapter_model.safetensors"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-64])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip_a_bit, "checksum_mismatch"), (cut_short, "checksum_mismatch"), (shutil.rmtree, "load_failed")],
)
def test_a_version_that_rots_on_disk_is_a_reported_fallback(
    damage: Any, reason: str, server: RealServer, base: Path, adapters: dict[str, str], tmp_path: Path
) -> None:
    name = f"rotten-{damage.__name__.replace('_', '-')}"
    version = published(server, base, tmp_path / "adapter", name, seed=len(name))
    damage(version)
    counted = server.metric("switchyard_adapter_fallbacks_total", reason=reason)
    well = text_of(complete(server, "red"))

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"{server.url}/v1/completions"
            return list(
                await asyncio.gather(
                    client.post(url, json=body(name, fallback="base")),
                    client.post(url, json=body(name, fallback="error")),
                    client.post(url, json=body("red")),
                )
            )

    lenient, strict, other = asyncio.run(together())
    assert text_of(lenient) == text_of(complete(server, "base"))
    assert lenient.headers["x-adapter-fallback"] == reason
    assert lenient.headers["x-adapter-digest"] == "base"
    assert lenient.json()["switchyard"]["fallback"]["reason"] == reason
    assert str(server.store) not in lenient.text
    assert strict.status_code == 503
    assert strict.json()["error"]["code"] == "adapter_unavailable"
    assert reason in strict.json()["error"]["message"]
    assert text_of(other) == well
    assert server.metric("switchyard_adapter_fallbacks_total", reason=reason) > counted


def test_an_adapter_larger_than_the_whole_budget(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path, adapter_budget_bytes=20_000) as small:
        published(small, base, tmp_path / "large", "large", seed=1)
        store = AdapterStore(small.store)
        store.publish(parse_adapter_name("fits"), write_lora(base, tmp_path / "fits", seed=2, r=2, targets=("q_proj",)))
        lenient = complete(small, "large", fallback="base")
        assert lenient.headers["x-adapter-fallback"] == "too_large"
        assert "SWITCHYARD_ADAPTER_BUDGET_BYTES" in lenient.json()["switchyard"]["fallback"]["detail"]
        assert complete(small, "large").status_code == 503
        assert complete(small, "fits").headers["x-adapter-name"] == "fits"


async def last_of_a_broken_stream(chunks: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """The last chunk of a stream that ends without `[DONE]`."""
    last: dict[str, Any] = {}
    try:
        async for chunk in chunks:
            last = chunk
    except AssertionError:
        return last
    raise AssertionError("the stream ended as if nothing had happened")


def test_a_killed_engine_ends_its_streams_and_comes_back(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path) as server:
        expected = text_of(complete(server, "base"))

        async def scenario() -> None:
            async with httpx.AsyncClient(timeout=60) as client:
                streams = [stream(client, server, **body("base", f"{number}", max_tokens=400)) for number in range(4)]
                for chunks in streams:
                    await anext(chunks)
                os.kill(server.engine_process(), signal.SIGKILL)
                for chunks in streams:
                    assert (await last_of_a_broken_stream(chunks))["error"]["code"] == "engine_unavailable"
                refused = await client.post(f"{server.url}/v1/completions", json=body("base"))
                assert refused.status_code in (200, 503)
                if refused.status_code == 503:
                    assert refused.headers["retry-after"]

        asyncio.run(scenario())
        assert httpx.get(f"{server.url}/health").status_code == 200
        deadline = time.monotonic() + 60
        while httpx.get(f"{server.url}/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert text_of(complete(server, "base")) == expected
        assert server.metric("switchyard_engine_restarts_total") == 1


def test_a_full_queue_is_a_429_with_a_time_to_retry(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path, max_rows=2, max_queue=2) as server:

        async def scenario() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=60) as client:
                url = f"{server.url}/v1/completions"
                return await asyncio.gather(
                    *(client.post(url, json=body("base", f"{number}", max_tokens=60)) for number in range(12))
                )

        answers = asyncio.run(scenario())
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 8
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert all(answer.json()["error"]["code"] == "queue_full" for answer in refused)
        assert len([answer for answer in answers if answer.status_code == 200]) == 4


def test_sigterm_ends_a_stream_with_an_error_once_its_grace_is_over(base: Path, tmp_path: Path) -> None:
    with serving(base, tmp_path, shutdown_grace=0.2) as server:

        async def scenario() -> dict[str, Any]:
            async with httpx.AsyncClient(timeout=60) as client:
                chunks = stream(client, server, **body("base", max_tokens=440))
                await anext(chunks)
                os.kill(server.process.process_id, signal.SIGTERM)
                return await last_of_a_broken_stream(chunks)

        assert asyncio.run(scenario())["error"]["code"] == "engine_unavailable"
        assert server.process.wait(30) == 0
