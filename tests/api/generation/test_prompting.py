"""Adapters that bring a chat template, tokens, stops or sampling: what the server makes of them."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer, models

from adapters_store import AdapterRef, Version, parse_adapter_name
from adapters_store.adapter_prompting import AddedToken
from adapters_store.errors import InvalidAdapter
from server.api.generation.prompting import Promptings
from server.api.routing.model_names import Target
from server.api.text.added_tokens import with_added_tokens
from server.api.text.tokenization import Tokenization
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, saying
from tests.api.tiny_tokenizer import byte_fallback_tokenizer

pytestmark = pytest.mark.anyio

TEMPLATE = "{% for m in messages %}({{ m.role }}: {{ m.content }}){% endfor %}{{ eos_token }}"
_FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
SLOW_FOR_TWO = f"{{% if messages | length > 1 %}}{_FOREVER}{{% endif %}}x"
"""A template that never ends with a conversation of more than one message."""
TOOL = 361
"""An id that the base has an embedding row for, and no token."""


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying(bench.ids("hello END world")), vocab_size=364)


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine) as client:
        yield client


def bring(directory: Path, name: str, content: object) -> None:
    """Lay a file beside an adapter's."""
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


def with_token(bench: Bench, token_id: int, content: str) -> dict[str, Any]:
    """The base's tokenizer.json with one more token."""
    described: dict[str, Any] = json.loads((bench.base / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    described["added_tokens"].append({"id": token_id, "content": content, **flags})
    return described


async def push(client: httpx.AsyncClient, directory: Path, name: str = "support") -> httpx.Response:
    files = [("files", (path.name, path.read_bytes())) for path in sorted(directory.iterdir())]
    return await client.put(f"/v1/adapters/{name}", files=files)


async def chat(client: httpx.AsyncClient, model: str = "support", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    return await client.post("/v1/chat/completions", json=body)


async def test_an_adapter_is_prompted_by_its_own_template_and_the_base_by_its(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    bring(source, "chat_template.jinja", TEMPLATE)
    assert (await push(client, source)).status_code == 201
    last = await chat(client)
    assert last.status_code == 200, last.text
    assert (await chat(client, model="base")).status_code == 200
    own, base = (bench.tokenizer.decode(request.prompt, skip_special_tokens=False) for request in engine.submitted)
    assert own == "(user: hello)<|im_end|>"
    assert base == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


async def test_the_bases_own_tokenizer_beside_an_adapter_brings_nothing(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    bare = (await push(client, source)).json()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (bench.base / name).exists():
            bring(source, name, (bench.base / name).read_text())
    again = await push(client, source)
    assert (again.status_code, again.json()["digest"]) == (200, bare["digest"])


async def test_an_added_token_is_one_token_of_the_adapter_alone(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    bring(source, "tokenizer.json", with_token(bench, TOOL, "<tool>"))
    assert (await push(client, source)).status_code == 201
    for model in ("support", "base"):
        answer = await client.post("/v1/completions", json={"model": model, "prompt": "hello<tool>"})
        assert answer.status_code == 200
    assert engine.submitted[0].prompt == [*bench.ids("hello"), TOOL]
    assert engine.submitted[1].prompt == bench.ids("hello<tool>")


async def test_a_token_beyond_the_embedding_is_refused_at_publication(bench: Bench, client: httpx.AsyncClient) -> None:
    source = bench.adapter_directory()
    bring(source, "tokenizer.json", with_token(bench, 364, "<tool>"))
    refused = await push(client, source)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_adapter")
    assert "no embedding row" in refused.json()["error"]["message"]


async def test_stops_and_sampling_of_the_adapter_apply_where_the_request_says_nothing(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    bring(
        source,
        "generation_config.json",
        {"eos_token_id": [2, 5], "stop_strings": ["END"], "temperature": 0.25, "top_k": 7, "top_p": 0.5},
    )
    assert (await push(client, source)).status_code == 201
    answer = (await chat(client)).json()
    assert answer["choices"][0]["message"]["content"] == "hello "
    assert answer["choices"][0]["finish_reason"] == "stop"
    await chat(client, temperature=1.0, top_p=0.9, ignore_eos=True)
    await chat(client, model="base")
    own, asked, base = (request.sampling for request in engine.submitted)
    assert (own.temperature, own.top_k, own.top_p, own.stop_token_ids) == (0.25, 7, 0.5, (5,))
    assert (asked.temperature, asked.top_k, asked.top_p, asked.stop_token_ids) == (1.0, 7, 0.9, ())
    assert (base.temperature, base.top_k, base.top_p, base.stop_token_ids) == (1.0, 0, 1.0, ())


async def test_an_eos_token_of_its_own_ends_the_adapters_answers(
    bench: Bench, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    source = bench.adapter_directory()
    bring(source, "tokenizer.json", with_token(bench, TOOL, "<end>"))
    bring(source, "special_tokens_map.json", {"eos_token": "<end>"})
    await push(client, source)
    await chat(client)
    assert engine.submitted[0].sampling.stop_token_ids == (TOOL,)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}x", "one message only"),
        ("{% if messages | length > 1 %}{{ 1 / 0 }}{% endif %}x", "ZeroDivisionError"),
        (SLOW_FOR_TWO, "more than 1 s"),
    ],
)
async def test_an_error_of_the_template_is_a_400_that_names_the_messages(
    bench: Bench, client: httpx.AsyncClient, template: str, says: str
) -> None:
    source = bench.adapter_directory()
    bring(source, "chat_template.jinja", template)
    assert (await push(client, source)).status_code == 201
    refused = await chat(client, messages=[{"role": "user", "content": "x"}] * 2)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "chat_template_failed", "messages")
    assert says in error["message"]
    last = await chat(client)
    assert last.status_code == 200, last.text


async def test_a_template_that_never_works_is_refused_at_publication(bench: Bench, client: httpx.AsyncClient) -> None:
    source = bench.adapter_directory()
    bring(source, "chat_template.jinja", "{% for %}")
    refused = (await push(client, source)).json()["error"]
    assert (refused["code"], refused["param"]) == ("chat_template_failed", "chat_template")


async def test_the_cards_say_what_an_adapter_brings(bench: Bench, client: httpx.AsyncClient) -> None:
    source = bench.adapter_directory()
    bring(source, "chat_template.jinja", TEMPLATE)
    bring(source, "generation_config.json", {"temperature": 0.5})
    published = (await push(client, source)).json()
    card = (await client.get("/v1/models/support")).json()
    assert card["prompting"] == {
        "sha256": card["prompting"]["sha256"],
        "chat_template": True,
        "added_tokens": 0,
        "stop_strings": [],
        "stop_token_ids": [],
        "sampling": {"temperature": 0.5},
    }
    assert published["metadata"]["prompting"] == card["prompting"]
    assert (await client.get("/v1/models/base")).json()["prompting"] is None


async def test_a_prompting_file_that_was_changed_on_disk_is_never_used(bench: Bench, client: httpx.AsyncClient) -> None:
    source = bench.adapter_directory()
    bring(source, "generation_config.json", {"temperature": 0.5})
    await push(client, source)
    path = bench.store.resolve(AdapterRef(parse_adapter_name("support"))).directory / "prompting.json"
    path.chmod(0o644)
    path.write_text('{"sampling":{"temperature":2}}')
    refused = await chat(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "corrupt_adapter")
    path.unlink()
    assert (await chat(client)).status_code == 503


def brought(bench: Bench, name: str, **files: object) -> Version:
    """A published version that brings files, by their names up to the dot."""
    source = bench.adapter_directory(seed=sum(map(ord, name)))
    endings = {"chat_template": "jinja"}
    for stem, content in files.items():
        bring(source, f"{stem}.{endings.get(stem, 'json')}", content)
    return bench.store.publish(parse_adapter_name(name), source).version


async def test_one_load_serves_all_that_wait_for_it_and_outlives_them(bench: Bench) -> None:
    version = brought(bench, "support", chat_template=TEMPLATE)
    promptings = Promptings(Tokenization.load(bench.base), embedding_rows=360)
    impatient = asyncio.create_task(promptings.of(Target(version)))
    await asyncio.sleep(0)
    impatient.cancel()
    first, second = await asyncio.gather(promptings.of(Target(version)), promptings.of(Target(version)))
    assert first is second
    assert (await promptings.of(Target(None))).tokenization is not first.tokenization
    promptings.close()


async def test_a_slow_template_is_in_nobody_elses_way(bench: Bench) -> None:
    slow = Target(brought(bench, "slow", chat_template=SLOW_FOR_TWO))
    quick = Target(brought(bench, "quick", chat_template=TEMPLATE))
    promptings = Promptings(Tokenization.load(bench.base), embedding_rows=360)
    message = {"role": "user", "content": "x"}
    hanging = (await promptings.of(slow)).tokenization
    waiting = [asyncio.create_task(hanging.encode_chat([message, message])) for _ in range(8)]
    await asyncio.sleep(0.05)
    answered = await asyncio.wait_for((await promptings.of(quick)).tokenization.encode_chat([message]), 5)
    assert bench.tokenizer.decode(answered, skip_special_tokens=False) == "(user: x)<|im_end|>"
    assert not any(task.done() for task in waiting[1:])
    for task in waiting:
        task.cancel()
    promptings.close()


def promptings_at_hand(bench: Bench, rows: int) -> Promptings:
    return Promptings(Tokenization.load(bench.base), embedding_rows=rows)


async def test_versions_of_a_tokenizer_that_was_dropped_are_dropped_with_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.generation.prompting._MOST_TOKENIZERS", 2)
    names = ["one", "two", "three"]
    targets = [
        Target(brought(bench, name, tokenizer=with_token(bench, TOOL, f"<{name}>"), chat_template=name))
        for name in names
    ]
    promptings = promptings_at_hand(bench, 364)
    first, second = [await promptings.of(target) for target in targets[:2]]
    assert await promptings.of(targets[0]) is first
    gone = weakref.ref(second)
    del second
    await promptings.of(targets[2])
    assert await promptings.of(targets[0]) is first
    gc.collect()
    assert gone() is None
    promptings.close()


async def test_versions_of_the_same_tokens_share_one_tokenizer(bench: Bench) -> None:
    described = with_token(bench, TOOL, "<tool>")
    targets = [Target(brought(bench, name, tokenizer=described, chat_template=name)) for name in ("one", "two")]
    promptings = promptings_at_hand(bench, 364)
    first, second = await asyncio.gather(*(promptings.of(target) for target in targets))
    assert first.tokenization.tokenizer is second.tokenization.tokenizer
    promptings.close()


def token(token_id: int, content: str) -> AddedToken:
    return AddedToken(id=token_id, content=content, special=True)


def test_a_token_behind_a_gap_of_ids_gets_its_own_id(bench: Bench) -> None:
    tokenizer = with_added_tokens(bench.tokenizer, [token(399, "<far>"), token(380, "<near>")], 400)
    assert tokenizer.encode("hello<near><far>", add_special_tokens=False).ids == [*bench.ids("hello"), 380, 399]
    assert tokenizer.decode([399], skip_special_tokens=False) == "<far>"
    assert bench.tokenizer.token_to_id("<far>") is None


def test_a_reserved_token_gets_another_text(bench: Bench) -> None:
    tokenizer = with_added_tokens(bench.tokenizer, [token(1, "<tool>")], 360)
    assert tokenizer.encode("<tool>", add_special_tokens=False).ids == [1]
    assert tokenizer.token_to_id("<|im_start|>") is None


def test_tokens_that_the_base_has_change_nothing(bench: Bench) -> None:
    assert with_added_tokens(bench.tokenizer, [token(1, "<|im_start|>")], 360) is bench.tokenizer


@pytest.mark.parametrize("added", [token(360, "<beyond>"), token(40, "<taken>"), token(359, "hello")])
def test_a_token_that_cannot_be_served_is_refused(bench: Bench, added: AddedToken) -> None:
    with pytest.raises(InvalidAdapter, match="cannot be served"):
        with_added_tokens(bench.tokenizer, [added], 360)


def test_a_unigram_tokenizer_takes_tokens_at_its_end_and_in_reserved_places() -> None:
    base = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    base.add_special_tokens(["<unk>"])
    tokenizer = with_added_tokens(base, [token(0, "<pad>"), token(3, "<tool>")], 4)
    assert tokenizer.encode("a<tool>b<pad>").ids == [1, 3, 2, 0]
    with pytest.raises(InvalidAdapter):
        with_added_tokens(base, [token(1, "<tool>")], 4)
    with pytest.raises(InvalidAdapter):
        with_added_tokens(base, [token(5, "<tool>")], 8)


def test_a_tokenizer_in_the_manner_of_sentencepiece_takes_tokens_too() -> None:
    base: Tokenizer = byte_fallback_tokenizer()
    size = base.get_vocab_size()
    tokenizer = with_added_tokens(base, [token(size, "<tool>")], size + 1)
    assert tokenizer.encode("cat<tool>").ids[-1] == size
