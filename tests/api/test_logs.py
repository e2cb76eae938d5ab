"""What the log says of changes and of requests, and what it never says."""

import logging

import pytest

from tests.adapters_store.hand_made import write_adapter
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying
from tests.api.test_adapters import parts

pytestmark = pytest.mark.anyio

KEY = "a key of the operator's"


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """The routes' lines of one level."""
    sources = ("server.api.routes", "server.api.generation")
    return [
        record.getMessage() for record in caplog.records if record.levelno == level and record.name.startswith(sources)
    ]


async def test_every_change_of_the_store_is_one_line_at_info(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    path = "/v1/adapters/acme/support"
    with caplog.at_level(logging.INFO, "server"):
        async with serving(bench, bench.engine(saying([]))) as client:
            digests = []
            for seed in (1, 2):
                files = parts(write_adapter(bench.scratch / f"upload-{seed}", seed=seed))
                published = await client.put(path, files=files, headers={"x-request-id": f"put-{seed}"})
                digests.append(published.json()["digest"])
            for turn, digest in enumerate(digests):
                body = {"alias": "prod", "digest": digest}
                await client.post(f"{path}/promote", json=body, headers={"x-request-id": f"move-{turn}"})
            await client.post(f"{path}/rollback", json={}, headers={"x-request-id": "back"})
            await client.delete(path, headers={"x-request-id": "gone"})
            await client.delete(path)
    first, second = digests
    assert lines(caplog, logging.INFO) == [
        f"request put-1: published acme/support, alias latest: {first}",
        f"request put-2: published acme/support, alias latest: {second}",
        f"request move-0: promoted acme/support, alias prod: {first}",
        f"request move-1: promoted acme/support, alias prod: {second}",
        f"request back: rolled back acme/support, alias prod: {first}",
        f"request gone: deleted acme/support, alias latest, prod: {first}, {second}",
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_ended_is_one_line_at_debug(
    bench: Bench, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    digest = bench.publish("support")
    body = {"model": "support@latest", "prompt": "Paris is secret", "stream": stream}
    with caplog.at_level(logging.DEBUG):
        async with serving(bench, bench.engine(saying([5, 6], "length")), api_key=KEY) as client:
            headers = {"x-request-id": "mine", "authorization": f"Bearer {KEY}"}
            assert (await client.post("/v1/completions", json=body, headers=headers)).status_code == 200
    (line,) = lines(caplog, logging.DEBUG)
    known, _, seconds = line.rpartition(", ")
    assert known == (
        f"request mine: length: model support@latest, adapter support, digest {digest}, fallback none, "
        f"{len(bench.ids('Paris is secret'))} prompt and 2 generated tokens"
    )
    assert float(seconds.removesuffix(" s")) >= 0
    assert "secret" not in caplog.text
    assert KEY not in caplog.text


async def test_a_fallback_is_logged_as_the_base_with_its_reason(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.publish("support")
    engine = bench.engine(saying([], digest=None, fallback="too_large"))
    with caplog.at_level(logging.DEBUG, "server"):
        async with serving(bench, engine) as client:
            await client.post("/v1/completions", json={"model": "support", "prompt": "x"})
    (line,) = lines(caplog, logging.DEBUG)
    assert ": stop: model support, adapter base, digest none, fallback too_large, " in line


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"model": "nobody", "prompt": "secret"}, "model 'nobody', 404 model_not_found"),
        ({"model": "a\nb", "prompt": "secret"}, "model 'a\\nb', 400 invalid_model_name"),
        ({"prompt": "secret", "model": "base", "suffix": "."}, "model unread, 400 unsupported_parameter"),
    ],
)
async def test_a_request_that_is_refused_is_one_line_at_debug_too(
    bench: Bench, caplog: pytest.LogCaptureFixture, body: dict[str, object], told: str
) -> None:
    with caplog.at_level(logging.DEBUG, "server"):
        async with serving(bench, bench.engine(saying([]))) as client:
            await client.post("/v1/completions", json=body, headers={"x-request-id": "mine"})
    assert lines(caplog, logging.DEBUG) == [f"request mine: refused: {told}"]
    assert "secret" not in caplog.text
