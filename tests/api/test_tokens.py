"""`/tokenize` and `/detokenize`, in vLLM's form, by the tokenizer of the base or of an adapter."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.api.text.tokenization import Tokenization
from tests.api.harness import Bench, serving, until
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, bench.engine(saying([]), max_model_len=128)) as client:
        yield client


async def tokenized(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_text_is_counted(bench: Bench, client: httpx.AsyncClient) -> None:
    ids = bench.ids("hello world")
    assert await tokenized(client, model="base", prompt="hello world") == {
        "count": len(ids),
        "max_model_len": 128,
        "tokens": ids,
        "token_strs": None,
    }


async def test_the_vocabularys_own_spelling_is_shown(bench: Bench, client: httpx.AsyncClient) -> None:
    found = await tokenized(client, prompt="hello world", return_token_strs=True)
    assert found["token_strs"] == [bench.tokenizer.id_to_token(token_id) for token_id in found["tokens"]]
    assert (await tokenized(client, prompt=""))["count"] == 0


async def test_a_conversation_is_written_by_the_template_first(bench: Bench, client: httpx.AsyncClient) -> None:
    whole = (await tokenized(client, messages=MESSAGES))["tokens"]
    assert whole == bench.ids("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    bare = (await tokenized(client, messages=MESSAGES, add_generation_prompt=False))["tokens"]
    assert bare == bench.ids("<|im_start|>user\nhello<|im_end|>\n")
    begun = [*MESSAGES, {"role": "assistant", "content": "Par"}]
    continued = await tokenized(client, messages=begun, add_generation_prompt=False, continue_final_message=True)
    assert bench.tokenizer.decode(continued["tokens"], skip_special_tokens=False).endswith("assistant\nPar")


async def test_an_adapter_that_brings_its_own_template_is_written_by_it(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    (source / "chat_template.jinja").write_text(
        "[{{ messages[-1].content }}]{% if add_generation_prompt %}>{% endif %}"
    )
    files = [("files", (path.name, path.read_bytes())) for path in source.iterdir()]
    assert (await client.put("/v1/adapters/support", files=files)).status_code == 201
    assert (await tokenized(client, model="support", messages=MESSAGES))["tokens"] == bench.ids("[hello]>")
    padded = [{"role": "assistant", "content": " Par "}]
    continued = await tokenized(
        client, model="support", messages=padded, add_generation_prompt=False, continue_final_message=True
    )
    assert bench.tokenizer.decode(continued["tokens"]) == "[ Par "


async def test_tokens_become_the_text_that_they_came_from(bench: Bench, client: httpx.AsyncClient) -> None:
    text = "<|im_start|>Grüße, 東京"
    tokens = (await tokenized(client, prompt=text))["tokens"]
    assert (await client.post("/detokenize", json={"tokens": tokens})).json() == {"prompt": text}
    assert (await client.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": ["x"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": "x", "tools": []}, "messages"),
        ("/tokenize", {"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ("/tokenize", {"prompt": "x", "chat_template": "y"}, "chat_template"),
        ("/tokenize", {"prompt": "x", "inputs": "y"}, "inputs"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": ["x"]}, "tokens[0]"),
        ("/detokenize", {"tokens": [360]}, "tokens[0]"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [5] * (4 * 128 + 1)}, "tokens"),
        ("/tokenize", {"messages": MESSAGES * 4_097}, "messages"),
    ],
)
async def test_what_is_no_such_request_is_a_400_that_names_the_field(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    refused = await client.post(path, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


async def test_an_unknown_adapter_is_not_found(client: httpx.AsyncClient) -> None:
    for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [5]})):
        assert (await client.post(path, json={"model": "nobody", **body})).status_code == 404


async def test_many_long_texts_are_in_the_way_of_no_other_request(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("support")
    gate, encode, at_work = threading.Event(), Tokenization._encode, []

    def slow(tokenization: Tokenization, *arguments: Any) -> list[list[int]]:
        at_work.append(threading.current_thread().name)
        gate.wait(10)
        return encode(tokenization, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Tokenization, "_encode", slow)
        # Longer than what is encoded at once, and short enough to fit if all of its tokens were the longest.
        text = "x" * 500
        patched.setattr("server.api.text.text_threads._LIGHT", 100)
        body = {"prompt": text, "model": "support"}
        waiting = [asyncio.create_task(client.post("/tokenize", json=body)) for _ in range(16)]
        await until(lambda: len(at_work) == 4)
        refused = await client.post("/tokenize", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.post("/detokenize", json={"tokens": [5]})).status_code == 429
        async with asyncio.timeout(5):
            assert (await client.get("/v1/models/support")).status_code == 200
        gate.set()
        assert {(await answer).status_code for answer in waiting} == {200}
    assert {name.rpartition("_")[0] for name in at_work} == {"text"}
    assert (await client.post("/tokenize", json={"prompt": "x"})).status_code == 200
