"""An answer comes from the weights that its request named, whatever else is cached or published meanwhile."""

import asyncio
from pathlib import Path

import httpx

from adapters_store import AdapterStore, parse_adapter_name
from tests.http.client import PROMPT, body, complete, stream, text_of
from tests.http.real_server import RealServer
from tests.lora_adapters import write_lora


def test_the_same_prompt_is_answered_by_each_adapter_as_itself(server: RealServer, adapters: dict[str, str]) -> None:
    models = ["base", *adapters]
    first = {model: text_of(complete(server, model)) for model in models}
    assert len(set(first.values())) == len(models)
    for model in [*models, *reversed(models)]:
        again = complete(server, model)
        assert text_of(again) == first[model]
        assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_the_answer_names_its_adapter_and_digest(server: RealServer, adapters: dict[str, str]) -> None:
    answer = complete(server, "red")
    assert answer.headers["x-adapter-name"] == "red"
    assert answer.headers["x-adapter-digest"] == adapters["red"]
    assert "x-adapter-fallback" not in answer.headers
    origin = answer.json()["switchyard"]
    assert origin["residency"] == answer.headers["x-adapter-residency"]
    assert origin["residency"] in ("device", "host", "store")
    assert origin | {"cached_tokens": 0, "residency": "device"} == {
        "adapter": "red",
        "digest": adapters["red"],
        "fallback": None,
        "cached_tokens": 0,
        "residency": "device",
    }
    assert complete(server, "red").json()["switchyard"]["residency"] == "device"
    assert "x-adapter-residency" not in complete(server, "base").headers
    assert complete(server, "base").headers["x-adapter-digest"] == "base"


def test_a_mixed_batch_equals_each_request_alone(server: RealServer, adapters: dict[str, str]) -> None:
    work = [(model, f"{PROMPT} {number}") for number in range(3) for model in ("base", *adapters)]
    alone = [text_of(complete(server, model, prompt)) for model, prompt in work]

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            return await asyncio.gather(
                *(client.post(f"{server.url}/v1/completions", json=body(model, prompt)) for model, prompt in work)
            )

    assert [text_of(answer) for answer in asyncio.run(together())] == alone
    assert max(value for labels, value in _adapters_per_step(server)) > 0


def test_new_weights_under_the_same_name_leave_a_running_stream_alone(
    server: RealServer, base: Path, tmp_path: Path
) -> None:
    store = AdapterStore(server.store)
    name = parse_adapter_name("changing")
    old = store.publish(name, write_lora(base, tmp_path / "old", seed=11, strength=0.2)).version.digest

    async def scenario() -> tuple[str, str]:
        async with httpx.AsyncClient() as client:
            chunks = stream(client, server, **body("changing", max_tokens=120))
            first = await anext(chunks)
            assert first["switchyard"]["digest"] == old
            directory = await asyncio.to_thread(write_lora, base, tmp_path / "new", seed=12, strength=0.2)
            published = await asyncio.to_thread(store.publish, name, directory)
            after = await client.post(f"{server.url}/v1/completions", json=body("changing"), timeout=60)
            assert after.json()["switchyard"]["digest"] == published.version.digest != old
            text = first["choices"][0]["text"] + "".join(
                [chunk["choices"][0]["text"] async for chunk in chunks if chunk["choices"]]
            )
            return text, after.json()["choices"][0]["text"]

    streamed, after = asyncio.run(scenario())
    assert streamed == text_of(complete(server, f"changing@{old}", max_tokens=120))
    assert after == text_of(complete(server, "changing"))
    assert not streamed.startswith(after)


def _adapters_per_step(server: RealServer) -> list[tuple[dict[str, str], float]]:
    """Steps that ran more than two adapters: the whole count less those of at most two."""
    below = server.metric("switchyard_batch_adapters_bucket", le="2.0")
    return [({}, server.metric("switchyard_batch_adapters_count") - below)]
