"""`/v1/adapters`: a life from upload to deletion, and what is refused on the way."""

import asyncio
import errno
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store import AdapterStore
from tests.adapters_store.hand_made import lora_pair, write_adapter
from tests.api.harness import Bench, live, serving, until
from tests.api.scripted_engine import ScriptedEngine, saying

pytestmark = pytest.mark.anyio

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def engine(bench: Bench) -> ScriptedEngine:
    return bench.engine(saying([]))


@pytest.fixture
async def client(bench: Bench, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, engine) as client:
        yield client


def parts(directory: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """An adapter's files as multipart parts named `files`."""
    return [("files", (name, (directory / name).read_bytes())) for name in (CONFIG, WEIGHTS)]


def nothing_is_left(store: AdapterStore) -> bool:
    """Whether the store's folder for unfinished work is empty."""
    return not list((store.root / "tmp").iterdir())


async def test_an_upload_is_published_and_answers_requests(bench: Bench, client: httpx.AsyncClient) -> None:
    response = await client.put("/v1/adapters/acme/support", files=parts(bench.adapter_directory()))
    assert response.status_code == 201
    body = response.json()
    assert (body["id"], body["alias"], body["warnings"]) == ("acme/support", "latest", [])
    assert body["metadata"]["method"] == "lora"
    assert body["metadata"]["modules_by_rank"] == {"4": 2}
    completion = await client.post("/v1/completions", json={"model": "acme/support", "prompt": "x"})
    assert completion.json()["switchyard"]["digest"] == body["digest"]
    assert nothing_is_left(bench.store)


async def test_the_same_content_again_is_200_and_the_same_digest(bench: Bench, client: httpx.AsyncClient) -> None:
    files = parts(bench.adapter_directory())
    first = await client.put("/v1/adapters/support", files=files)
    second = await client.put("/v1/adapters/support", files=files)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["digest"] == second.json()["digest"]


async def test_an_upload_may_move_another_alias(bench: Bench, client: httpx.AsyncClient) -> None:
    files = parts(bench.adapter_directory())
    response = await client.put("/v1/adapters/support", params={"alias": "canary"}, files=files)
    shown = (await client.get("/v1/adapters/support")).json()
    assert shown["aliases"] == {"canary": response.json()["digest"]}


async def test_parts_may_be_named_by_the_file(bench: Bench, client: httpx.AsyncClient) -> None:
    """As `curl -F adapter_config.json=<file` and simple clients send them: a field, not a file."""
    directory = bench.adapter_directory()
    boundary = b"border"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (boundary, name.encode(), (directory / name).read_bytes())
        for name in (CONFIG, WEIGHTS)
    )
    response = await client.put(
        "/v1/adapters/support",
        content=body + b"--%b--\r\n" % boundary,
        headers={"content-type": "multipart/form-data; boundary=border"},
    )
    assert response.status_code == 201


async def test_a_large_upload_survives_every_way_of_cutting_it(bench: Bench, client: httpx.AsyncClient) -> None:
    """Chunks of odd sizes, so that borders fall inside headers, boundaries and tensors."""
    request = client.build_request("PUT", "/v1/adapters/support", files=parts(bench.adapter_directory()))
    body = b"".join([part async for part in request.stream])  # type: ignore[union-attr]
    digests = set()
    for size in (7, 61, 1021):

        async def chunks(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        headers = {"content-type": request.headers["content-type"]}
        response = await client.put("/v1/adapters/support", content=chunks(), headers=headers)
        assert response.status_code in (200, 201)
        digests.add(response.json()["digest"])
    assert len(digests) == 1


async def test_weights_that_are_published_again_may_be_loaded_at_once(
    client: httpx.AsyncClient, engine: ScriptedEngine, bench: Bench
) -> None:
    """Their files may just have been repaired: a failure that the engine remembers says nothing of them."""
    digests = []
    for _ in range(2):
        response = await client.put("/v1/adapters/support", files=parts(bench.adapter_directory()))
        digests.append(response.json()["digest"])
        assert engine.unloaded == digests[1:]


async def test_the_list_and_one_adapter_show_aliases_and_versions(bench: Bench, client: httpx.AsyncClient) -> None:
    first = bench.publish("support", seed=1, alias="prod")
    second = bench.publish("support", seed=2)
    bench.publish("zulu")
    listed = (await client.get("/v1/adapters")).json()
    assert [entry["id"] for entry in listed["data"]] == ["support", "zulu"]
    shown = (await client.get("/v1/adapters/support")).json()
    assert shown == listed["data"][0]
    assert shown["aliases"] == {"latest": second, "prod": first}
    assert [version["digest"] for version in shown["versions"]] == [first, second]
    assert shown["versions"][0]["metadata"]["rank_max"] == 4


async def test_promote_and_roll_back(bench: Bench, client: httpx.AsyncClient) -> None:
    first = bench.publish("acme/support", seed=1)
    path = "/v1/adapters/acme/support"
    moved = await client.post(f"{path}/promote", json={"alias": "prod"})
    assert (moved.status_code, moved.json()["digest"], moved.json()["previous"]) == (200, first, None)
    second = bench.publish("acme/support", seed=2)
    assert (await client.post(f"{path}/promote", json={"from": "latest"})).json()["digest"] == second
    back = (await client.post(f"{path}/rollback", json={"alias": "prod"})).json()
    assert (back["digest"], back["previous"]) == (first, second)
    assert (await client.post(f"{path}/promote", json={"digest": second})).json()["digest"] == second
    assert (await client.get(path)).json()["aliases"]["prod"] == second


async def test_a_promotion_that_expects_another_version_is_409(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.publish("support", alias="prod")
    body = {"alias": "prod", "expect": "sha256:" + "0" * 64}
    response = await client.post("/v1/adapters/support/promote", json=body)
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "alias_conflict"


async def test_an_adapter_may_be_called_like_an_action(bench: Bench, client: httpx.AsyncClient) -> None:
    digest = bench.publish("acme/promote")
    assert (await client.get("/v1/adapters/acme/promote")).json()["id"] == "acme/promote"
    moved = await client.post("/v1/adapters/acme/promote/promote", json={})
    assert (moved.json()["id"], moved.json()["digest"]) == ("acme/promote", digest)


async def test_a_deleted_adapter_leaves_the_device(
    bench: Bench, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    shared = bench.publish("support", seed=1)
    own = bench.publish("support", seed=2)
    bench.publish("other", seed=1)
    response = await client.delete("/v1/adapters/support")
    assert response.json() == {"id": "support", "object": "adapter", "deleted": True, "warnings": []}
    assert engine.unloaded == [own]
    assert shared != own
    assert (await client.get("/v1/adapters/support")).status_code == 404
    gone = await client.post("/v1/completions", json={"model": "support", "prompt": "x"})
    assert gone.status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/adapters/nobody"),
        ("DELETE", "/v1/adapters/nobody"),
        ("POST", "/v1/adapters/nobody/promote"),
        ("POST", "/v1/adapters/nobody/rollback"),
    ],
)
async def test_an_unknown_adapter_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path, json={})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("name", ["base", "task", "..%2f..%2fetc", "a%20b", "support@prod", "a/b/c", ".hidden"])
async def test_a_name_that_is_no_name_is_refused(bench: Bench, client: httpx.AsyncClient, name: str) -> None:
    response = await client.put(f"/v1/adapters/{name}", files=parts(bench.adapter_directory()))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_model_name"
    assert bench.store.list() == []
    assert nothing_is_left(bench.store)


@pytest.mark.parametrize(
    ("body", "param"), [({"alias": 5}, "alias"), ({"digest": "sha256:0", "from": "a"}, "from"), ({"to": "x"}, "to")]
)
async def test_a_promotion_that_makes_no_sense_is_refused(
    bench: Bench, client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    bench.publish("support")
    response = await client.post("/v1/adapters/support/promote", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def refused_upload(bench: Bench, client: httpx.AsyncClient, files: Any) -> dict[str, Any]:
    response = await client.put("/v1/adapters/support", files=files)
    assert response.status_code == 400
    assert bench.store.list() == []
    assert nothing_is_left(bench.store)
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("adapter_model.bin", "pickle"),
        ("../../adapter_config.json", "an adapter's files are"),
        ("/etc/passwd", "an adapter's files are"),
        ("README.md", "an adapter's files are"),
        ("", "an adapter's files are"),
    ],
)
async def test_only_an_adapters_files_are_accepted(
    bench: Bench, client: httpx.AsyncClient, name: str, says: str
) -> None:
    files = [*parts(bench.adapter_directory()), ("files", (name, b"content"))]
    assert says in (await refused_upload(bench, client, files))["message"]


async def test_a_file_may_come_only_once(bench: Bench, client: httpx.AsyncClient) -> None:
    files = parts(bench.adapter_directory())
    error = await refused_upload(bench, client, [*files, files[0]])
    assert error["param"] == CONFIG


async def test_a_missing_file_is_named(bench: Bench, client: httpx.AsyncClient) -> None:
    error = await refused_upload(bench, client, parts(bench.adapter_directory())[:1])
    assert (error["code"], error["param"]) == ("invalid_adapter", WEIGHTS)


async def test_an_adapter_for_another_base_is_refused(bench: Bench, client: httpx.AsyncClient) -> None:
    wrong = write_adapter(bench.scratch / "wrong", tensors=lora_pair("model.layers.0.self_attn.q_proj", 9, 9))
    error = await refused_upload(bench, client, parts(wrong))
    assert error["code"] == "invalid_adapter"


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"not multipart at all"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\ncontent\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n'),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="adapter_config.json"\r\n\r\n{"r"',
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b""),
    ],
)
async def test_a_body_that_is_no_whole_form_is_refused(
    bench: Bench, client: httpx.AsyncClient, content_type: str, content: bytes
) -> None:
    response = await client.put("/v1/adapters/support", content=content, headers={"content-type": content_type})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert nothing_is_left(bench.store)


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_beyond_the_limit_is_413_before_it_is_all_here(bench: Bench, announced: bool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="adapter_model.safetensors"\r\n\r\n'
        for _ in range(1024):
            sent += 65_536
            yield bytes(65_536)

    limit = 256 * 1024
    async with serving(bench, bench.engine(saying([])), max_upload_bytes=limit) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        if announced:
            headers["content-length"] = str(1024 * 65_536)
        response = await client.put("/v1/adapters/support", content=endless(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    assert sent <= 2 * limit
    assert nothing_is_left(bench.store)


async def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing(bench: Bench) -> None:
    async with live(bench, bench.engine(saying([]))) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            b"PUT /v1/adapters/support HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="adapter_config.json"\r\n\r\n{'
        )
        await writer.drain()
        await until(lambda: not nothing_is_left(bench.store))
        writer.close()
        await until(lambda: nothing_is_left(bench.store))
    assert bench.store.list() == []


@pytest.mark.parametrize(
    ("name", "alias"), [("base", "latest"), ("acme/task", "latest"), ("support", "not an alias"), ("support", "")]
)
async def test_a_name_or_alias_that_cannot_be_published_is_refused_before_the_upload(
    client: httpx.AsyncClient, name: str, alias: str
) -> None:
    asked = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield b"--x\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = await client.put(f"/v1/adapters/{name}", params={"alias": alias}, content=body(), headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_model_name"
    assert not asked


async def test_an_upload_that_stands_still_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.request_body.IDLE_SECONDS", 0.1)
    async with live(bench, bench.engine(saying([]))) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            b"PUT /v1/adapters/support HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["error"]["code"] == "request_timeout"
        assert nothing_is_left(bench.store)
        writer.close()


async def test_changes_that_wait_for_a_lock_hold_up_no_request(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are threads for everything else."""
    bench.publish("support", alias="prod")
    promote, unlocked = AdapterStore.promote, threading.Event()

    def locked(*arguments: Any, **options: Any) -> Any:
        assert unlocked.wait(20)
        return promote(*arguments, **options)

    monkeypatch.setattr(AdapterStore, "promote", locked)
    path, body = "/v1/adapters/support/promote", {"from": "prod", "alias": "canary"}
    changes = [asyncio.create_task(client.post(path, json=body)) for _ in range(40)]
    try:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            answer = await client.post("/v1/completions", json={"model": "support@prod", "prompt": "x"})
        assert answer.status_code == 200
        assert not any(change.done() for change in changes)
    finally:
        unlocked.set()
    assert {(await change).status_code for change in changes} == {200}


async def test_uploads_at_once_are_bounded(bench: Bench) -> None:
    released = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await released.wait()

    async with live(bench, bench.engine(saying([]))) as url, httpx.AsyncClient(base_url=url) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        open_uploads = [
            asyncio.create_task(client.put(f"/v1/adapters/a{number}", content=slow(), headers=headers))
            for number in range(4)
        ]
        await until(lambda: len(list((bench.store.root / "tmp").iterdir())) == 4)
        refused = await client.put("/v1/adapters/a5", files=parts(bench.adapter_directory()))
        assert refused.status_code == 429
        released.set()
        assert {response.status_code for response in await asyncio.gather(*open_uploads)} == {400}
        assert (await client.put("/v1/adapters/a5", files=parts(bench.adapter_directory()))).status_code == 201


async def test_metadata_is_json_that_a_client_can_read_back(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.publish("support")
    text = (await client.get("/v1/adapters/support")).text
    (version,) = json.loads(text)["versions"]
    assert set(version["metadata"]) >= {"method", "rank_min", "rank_max", "dtype", "target_modules", "base_name"}


async def test_warnings_of_a_publication_are_told(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]), base_name="another-base")) as client:
        response = await client.put("/v1/adapters/support", files=parts(bench.adapter_directory()))
    assert response.status_code == 201
    (warning,) = response.json()["warnings"]
    assert "another-base" in warning


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/adapters/support?expct=none"),
        ("GET", "/v1/adapters?offset=1"),
        ("GET", "/v1/adapters/support?histroy=true"),
        ("DELETE", "/v1/adapters/support?expect=none"),
        ("POST", "/v1/adapters/support/promote?expect=none"),
    ],
)
async def test_a_query_parameter_that_a_route_does_not_have_is_refused(
    bench: Bench, client: httpx.AsyncClient, method: str, path: str
) -> None:
    files = parts(bench.adapter_directory()) if method == "PUT" else None
    response = await client.request(method, path, files=files)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "unsupported_parameter")
    assert error["param"] == path.partition("?")[2].partition("=")[0]
    assert bench.store.list() == []


@pytest.mark.parametrize("place", ["mkdtemp", "write"])
async def test_a_disk_that_is_full_before_the_upload_is_507(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = "tempfile.mkdtemp" if place == "mkdtemp" else "python_multipart.multipart.MultipartParser.write"
    monkeypatch.setattr(target, full)
    response = await client.put("/v1/adapters/support", files=parts(bench.adapter_directory()))
    assert (response.status_code, response.json()["error"]["code"]) == (507, "store_full")
    assert nothing_is_left(bench.store)
