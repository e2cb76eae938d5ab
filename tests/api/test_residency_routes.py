"""`/v1/adapter_usage`, and pins at run time."""

import shutil
from pathlib import Path

import pytest

from server.api.preloading.pin_file import PinFile
from server.engine.messages import LoadReport, LookupReport
from tests.api.harness import Bench, serving, until
from tests.api.metrics.test_registry import state
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio


async def test_usage_lists_adapters_with_their_requests_and_the_cache(bench: Bench) -> None:
    digest = bench.publish("a", seed=1)
    bench.publish("acme/b", seed=2)
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        for _ in range(3):
            await client.post("/v1/completions", json={"model": "a", "prompt": "x"})
        engine.report(state())
        engine.report(LookupReport(name="a", digest=digest, tier="store"))
        engine.report(LoadReport(name="a", digest=digest, seconds=0.1, size_bytes=10, rank=8))
        answer = (await client.get("/v1/adapter_usage")).json()
        unused = (await client.get("/v1/adapter_usage", params={"unused_for": 1})).json()
    assert [(one["id"], one["requests"], one["tier"]) for one in answer["data"]] == [
        ("acme/b", 0, "store"),
        ("a", 3, "store"),
    ]
    assert unused["data"] == []
    assert answer["cache"]["working_set"] == {"adapters": 1, "bytes": 10}
    assert list(answer["cache"]["hit_ratios"]) == ["0.5x", "1x", "2x", "4x", "8x", "16x"]
    assert "too few lookups" in answer["cache"]["advice"]
    assert answer["history_since"].endswith("Z")


@pytest.mark.parametrize("params", [{"unused_for": "-1"}, {"unused_for": "often"}, {"limit": "0"}, {"unused": "1"}])
async def test_a_wrong_parameter_of_usage_is_refused(bench: Bench, params: dict[str, str]) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        refused = await client.get("/v1/adapter_usage", params=params)
    assert refused.status_code == 400
    assert next(iter(params)) in refused.json()["error"]["message"]


async def test_a_pin_is_foretold_at_once_and_outlasts_the_server(bench: Bench) -> None:
    digest = bench.publish("a", seed=1, alias="prod")
    engine = bench.engine(saying([]))
    async with serving(bench, engine, preload_interval=60) as client:
        answer = (await client.post("/v1/adapters/a/pin", json={"alias": "prod"})).json()
        assert answer == {"id": "a@prod", "object": "adapter.pin", "pinned": True, "pins": ["a@prod"]}
        await until(lambda: engine.forecasts and engine.forecasts[-1].versions)
    (pinned,) = engine.forecasts[-1].versions
    assert (pinned.version.digest, pinned.pinned) == (digest, True)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, preload_interval=60) as client:
        await until(lambda: engine.forecasts and engine.forecasts[-1].versions)
        assert (await client.post("/v1/adapters/a/unpin", json={"alias": "prod"})).json()["pins"] == []
        await until(lambda: not engine.forecasts[-1].versions)


async def test_a_pin_that_cannot_be_kept_is_an_error_and_no_pin(bench: Bench, tmp_path: Path) -> None:
    bench.publish("a", seed=1)
    history = tmp_path / "folder" / "history"
    async with serving(bench, bench.engine(saying([])), traffic_history=history) as client:
        assert (await client.post("/v1/adapters/a/pin", json={})).status_code == 200
        shutil.rmtree(history.parent)
        history.parent.write_text("in the way")
        refused = await client.post("/v1/adapters/a/unpin", json={})
        assert refused.status_code == 507
        assert refused.json()["error"]["code"] == "pin_not_kept"
        assert "history.pins cannot be written" in refused.json()["error"]["message"]
        assert (await client.get("/v1/adapter_usage")).json()["pins"] == ["a"]
        await client.delete("/v1/adapters/a")
        assert (await client.get("/v1/adapter_usage")).json()["pins"] == []


async def test_a_pin_is_on_the_disk_when_it_is_confirmed(bench: Bench, tmp_path: Path) -> None:
    bench.publish("a", seed=1)
    history = tmp_path / "history"
    async with serving(bench, bench.engine(saying([])), traffic_history=history) as client:
        await client.post("/v1/adapters/a/pin", json={})
        assert PinFile(tmp_path / "history.pins").load() == ("a",)
        await client.post("/v1/adapters/a/unpin", json={})
        assert PinFile(tmp_path / "history.pins").load() == ()


async def test_a_digest_can_be_pinned_and_a_deleted_adapter_keeps_no_pin(bench: Bench) -> None:
    digest = bench.publish("acme/a", seed=1)
    async with serving(bench, bench.engine(saying([]))) as client:
        answer = (await client.post("/v1/adapters/acme/a/pin", json={"digest": digest})).json()
        assert answer["pins"] == [f"acme/a@{digest}"]
        assert (await client.post("/v1/adapters/acme/a/pin", json={})).json()["pins"] == [*answer["pins"], "acme/a"]
        await client.delete("/v1/adapters/acme/a")
        assert (await client.get("/v1/adapter_usage")).json()["pins"] == []


async def test_what_cannot_be_pinned_is_told(bench: Bench) -> None:
    bench.publish("a")
    async with serving(bench, bench.engine(saying([]))) as client:

        async def refused(name: str, body: dict[str, object]) -> tuple[int, str]:
            answer = await client.post(f"/v1/adapters/{name}/pin", json=body)
            return answer.status_code, answer.json()["error"]["message"]

        assert await refused("b", {}) == (404, "there is no adapter 'b'")
        assert (await refused("a", {"alias": "absent"}))[0] == 404
        assert (await refused("base", {}))[0] == 400
        assert (await refused("a", {"alias": "x", "digest": "sha256:" + "0" * 64}))[0] == 400
        status, message = await refused("a", {"tier": "host"})
        assert status == 400
        assert "tier" in message
