"""What holds for every route: request ids, the key, error objects, limits on bodies."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from adapters_store import AdapterStore
from tests.api.harness import Bench, live, serving
from tests.api.scripted_engine import Wait, saying

pytestmark = pytest.mark.anyio

KEY = "correct horse battery staple"
BODY = {"model": "base", "prompt": "x"}
JSON = {"content-type": "application/json"}


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(bench, bench.engine(saying([]))) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object, which must have exactly OpenAI's fields."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/health"),
        await client.get("/nowhere"),
        await client.put("/health"),
        await client.post("/v1/completions", json=BODY),
        await client.post("/v1/completions", json=BODY | {"stream": True}),
        await client.post("/v1/completions", content=b"{", headers=JSON),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in ids)


@pytest.mark.parametrize(("sent", "kept"), [("trace-7.a_B", True), ("", False), ("a b", False), ("x" * 129, False)])
async def test_a_clients_own_request_id_is_kept_when_it_is_a_plain_word(
    client: httpx.AsyncClient, sent: str, kept: bool
) -> None:
    answer = await client.get("/health", headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) == kept


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/base", 405, "method_not_allowed"),
    ],
)
async def test_what_the_framework_refuses_is_an_error_object_too(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    error = error_of(response)
    assert (error["code"], error["type"], error["param"]) == (code, "invalid_request_error", None)
    assert path in error["message"]
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/chat/completions"), ("POST", "/completions"), ("GET", "/models"), ("GET", "/adapters/acme/support")],
)
async def test_a_path_without_its_v1_is_told_where_it_lies(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 404
    assert error_of(response)["message"] == (
        f"there is no {method} {path}; did you mean /v1{path}? (the client's base_url ends in /v1)"
    )
    elsewhere = await client.request(method, "/nowhere")
    assert error_of(elsewhere)["message"] == f"there is no {method} /nowhere"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", ["POST"]),
        ("DELETE", "/v1/models/base", ["GET"]),
        ("PATCH", "/v1/adapters/acme/support", ["GET", "PUT", "DELETE"]),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_those_that_are(
    client: httpx.AsyncClient, method: str, path: str, allowed: list[str]
) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == ", ".join(allowed)
    assert error_of(response)["message"] == f"{method} {path} is not allowed; send {' or '.join(allowed)}"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"model": NaN}', b'{"prompt": "\\ud800"}', b"[" * 100_000, b"{} {}"]
)
async def test_what_is_not_json_is_the_clients_error(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v1/completions", content=content, headers=JSON)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""])
async def test_a_body_that_is_not_declared_as_json_is_415_and_told_the_header(
    client: httpx.AsyncClient, kind: str
) -> None:
    """Any other kind may be sent by a page of any site, without the browser asking first."""
    headers = {"content-type": kind} if kind else {}
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/adapters/a/promote", "/v1/adapters/a/rollback"):
        response = await client.post(path, content=b"{}", headers=headers)
        assert response.status_code == 415
        error = error_of(response)
        assert (error["code"], error["type"]) == ("unsupported_media_type", "invalid_request_error")
        assert "-H 'Content-Type: application/json'" in error["message"]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
async def test_json_may_be_declared_with_parameters(client: httpx.AsyncClient, kind: str) -> None:
    content = b'{"model": "base", "prompt": "x"}'
    assert (await client.post("/v1/completions", content=content, headers={"content-type": kind})).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"])
async def test_without_a_key_this_machine_may_be_called_by_its_own_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "evil@localhost", "localhost:80@evil", "[::1", ""],
)
async def test_without_a_key_another_host_is_403(client: httpx.AsyncClient, host: str) -> None:
    """A name of an attacker's that resolves to 127.0.0.1 makes a browser send requests here, and read the answers."""
    for path in ("/v1/models", "/health"):
        response = await client.get(path, headers={"host": host})
        assert response.status_code == 403
        error = error_of(response)
        assert (error["code"], error["type"]) == ("forbidden_host", "permission_error")
        assert "SWITCHYARD_API_KEY" in error["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8000", 200),
        ("https://[::1]", 200),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_without_a_key_a_page_from_elsewhere_is_403(client: httpx.AsyncClient, origin: str, status: int) -> None:
    response = await client.post("/v1/completions", json=BODY, headers={"origin": origin})
    assert response.status_code == status
    if status == 403:
        assert error_of(response)["code"] == "forbidden_origin"


async def test_with_a_key_neither_host_nor_origin_matters(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([])), api_key=KEY) as client:
        headers = {"host": "llm.example", "origin": "https://app.example", "authorization": f"Bearer {KEY}"}
        assert (await client.post("/v1/completions", json=BODY, headers=headers)).status_code == 200


async def test_a_field_at_fault_is_named(client: httpx.AsyncClient) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "x"}, {"role": "user"}]}
    response = await client.post("/v1/chat/completions", json=body)
    assert error_of(response)["param"] == "messages[1].content"


async def test_an_error_of_ours_is_500_and_tells_nothing_of_the_inside(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: AdapterStore, *_of_a_page: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(AdapterStore, "page", broken)
    with caplog.at_level(logging.ERROR):
        response = await client.get("/v1/adapters", headers={"x-request-id": "mine"})
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "mine"
    assert "request mine: " in caplog.text
    assert "a secret of the inside" in caplog.text


@pytest.fixture(params=["whole", "chunked"])
def large_body(request: pytest.FixtureRequest) -> Any:
    """A body of about 64 KiB, with its length announced or not."""
    content = b'{"model": "base", "prompt": "' + b"x" * 65_536 + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 4096):
            yield content[start : start + 4096]

    return content if request.param == "whole" else pieces()


async def test_a_body_beyond_the_limit_is_413(bench: Bench, large_body: Any) -> None:
    engine = bench.engine(saying([]))
    async with live(bench, engine, max_body_bytes=16_384) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/completions", content=large_body, headers=JSON)
        assert response.status_code == 413
        error = error_of(response)
        assert error["code"] == "request_too_large"
        assert "16384" in error["message"]
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200
    assert len(engine.submitted) == 1


async def test_a_body_is_refused_as_soon_as_it_is_too_large_not_when_it_ends(bench: Bench) -> None:
    async with live(bench, bench.engine(saying([])), max_body_bytes=1024) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"800\r\n" + b" " * 0x800 + b"\r\n")
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


@pytest.fixture
def _no_key_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield
    assert KEY not in caplog.text


@pytest.mark.usefixtures("_no_key_in_the_log")
async def test_with_a_key_only_health_and_readiness_are_open(bench: Bench) -> None:
    bench.publish("support")
    async with serving(bench, bench.engine(saying([])), api_key=KEY) as client:
        paths = [
            ("GET", "/v1/models"),
            ("GET", "/v1/adapters/support"),
            ("DELETE", "/v1/adapters/support"),
            ("POST", "/v1/completions"),
            ("GET", "/metrics"),
            ("GET", "/version"),
            ("GET", "/openapi.json"),
            ("GET", "/nowhere"),
        ]
        for method, path in paths:
            response = await client.request(method, path)
            assert response.status_code == 401, path
            error = error_of(response)
            assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
            assert response.headers["www-authenticate"] == "Bearer"
            assert "x-request-id" in response.headers
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
    assert bench.store.list()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("", 401),
        ("Bearer schlüssel", 401),
    ],
)
async def test_only_the_key_itself_opens(bench: Bench, header: str, status: int) -> None:
    async with serving(bench, bench.engine(saying([])), api_key=KEY) as client:
        response = await client.get("/version", headers={b"authorization": header.encode()})
    assert response.status_code == status


async def test_a_full_queue_is_429_with_a_time_to_come_back(bench: Bench) -> None:
    released = asyncio.Event()
    script = saying([])
    engine = bench.engine(lambda request: [Wait(released), *script(request)], max_rows=1)
    async with serving(bench, engine, max_queue=1) as client:
        inside = [asyncio.create_task(client.post("/v1/completions", json=BODY)) for _ in range(2)]
        while len(engine.submitted) < 2:
            await asyncio.sleep(0.01)
        refused = await client.post("/v1/completions", json=BODY)
        assert refused.status_code == 429
        assert (error_of(refused)["code"], error_of(refused)["type"]) == ("queue_full", "rate_limit_error")
        assert int(refused.headers["retry-after"]) >= 1
        released.set()
        assert [response.status_code for response in await asyncio.gather(*inside)] == [200, 200]
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": [5, 360]},
        {"prompt": [-1]},
        {"stop_token_ids": [400]},
        {"prompt": [5] * 128},
        {"prompt": [5] * 120, "max_tokens": 9},
    ],
)
async def test_a_request_that_is_refused_takes_no_place(bench: Bench, body: dict[str, Any]) -> None:
    engine = bench.engine(saying([]), max_rows=1)
    async with serving(bench, engine, max_queue=0) as client:
        for _ in range(3):
            assert (await client.post("/v1/completions", json=BODY | body)).status_code == 400
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": [5, 360]}, "prompt[1]", "invalid_value"),
        ({"prompt": [-1]}, "prompt[0]", "invalid_value"),
        ({"stop_token_ids": [4, 400]}, "stop_token_ids[1]", "invalid_value"),
        ({"prompt": [5] * 128}, "prompt", "context_length_exceeded"),
        ({"prompt": [5] * 120, "max_tokens": 9}, "max_tokens", "context_length_exceeded"),
    ],
)
async def test_what_the_base_cannot_do_is_the_clients_error(
    client: httpx.AsyncClient, body: dict[str, Any], param: str, code: str
) -> None:
    response = await client.post("/v1/completions", json=BODY | body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, code)
    if code == "context_length_exceeded":
        assert "128" in error["message"]
        assert str(len(body["prompt"])) in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "Paris."}, "prompt"),
        ("/v1/completions", {"prompt": ["Paris."]}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Paris."}]}, "messages"),
    ],
)
async def test_text_that_becomes_a_token_which_only_the_tokenizer_has_is_the_clients_error(
    bench: Bench, path: str, body: dict[str, Any], param: str
) -> None:
    largest = max(bench.ids("Paris."))
    engine = bench.engine(saying([]), vocab_size=largest)
    async with serving(bench, engine) as client:
        response = await client.post(path, json={"model": "base"} | body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert f"from 0 to {largest - 1}" in error["message"]
    assert engine.submitted == []


async def test_a_request_that_cannot_be_answered_never_reaches_the_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.engine(saying([]), max_rows=1)
    async with serving(bench, engine, max_queue=0) as client:
        for part in ("generation.choice_text.GeneratedText.__init__", "metrics.request_metrics.RequestMetrics.begin"):
            with monkeypatch.context() as broken:
                broken.setattr(f"server.api.{part}", lambda *_, **__: 1 / 0)
                assert (await client.post("/v1/completions", json=BODY)).status_code == 500
        assert engine.submitted == []
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200
