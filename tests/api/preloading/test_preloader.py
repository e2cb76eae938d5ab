"""The preloader: which versions the engine hears of, when, and what survives a restart."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store import parse_adapter_name
from adapters_store.names import AdapterRef
from server.adapters.traffic.traffic_history import TrafficHistory
from server.adapters.traffic.traffic_model import TrafficModel
from server.api.preloading.preloader import Preloader, history_path
from server.config import Settings
from server.engine.messages import Forecast
from tests.api.harness import Bench, serving, until
from tests.api.scripted_engine import ScriptedEngine, saying

pytestmark = pytest.mark.anyio

SOON: dict[str, Any] = {"preload_interval": 0.05}


async def ask(client: httpx.AsyncClient, model: str, times: int = 1) -> None:
    for _ in range(times):
        response = await client.post("/v1/completions", json={"model": model, "prompt": "x"})
        assert response.status_code == 200, response.text


async def next_forecast(engine: ScriptedEngine) -> Forecast:
    """One that was begun after now."""
    before = len(engine.forecasts)
    await until(lambda: len(engine.forecasts) >= before + 2)
    return engine.forecasts[-1]


def names(forecast: Forecast) -> list[str]:
    return [one.version.name for one in forecast.versions]


async def test_the_hottest_are_foretold_first_with_their_versions(bench: Bench) -> None:
    digests = {name: bench.publish(name, seed=seed) for seed, name in enumerate(("a", "b", "c"))}
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON) as client:
        for name, times in (("a", 1), ("b", 4), ("base", 9), ("c", 2)):
            await ask(client, name, times)
        forecast = await next_forecast(engine)
    assert names(forecast) == ["b", "c", "a"]
    assert [one.version.digest for one in forecast.versions] == [digests["b"], digests["c"], digests["a"]]
    assert all(Path(one.version.directory).is_dir() for one in forecast.versions)
    rates = [one.rate for one in forecast.versions]
    assert rates == sorted(rates, reverse=True)
    assert not any(one.pinned for one in forecast.versions)


async def test_a_name_means_its_present_version_and_two_names_of_one_version_count_together(bench: Bench) -> None:
    bench.publish("a", seed=1)
    bench.publish("b", seed=2)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON) as client:
        await ask(client, "a", 2)
        await ask(client, "b", 3)
        moved = bench.publish("a", seed=3)
        bench.store.promote(AdapterRef(parse_adapter_name("a")))
        await ask(client, "a@prod", 2)
        forecast = await next_forecast(engine)
    assert next((one.version.name, one.version.digest) for one in forecast.versions) == ("a", moved)
    assert len(forecast.versions) == 2


async def test_what_a_task_chose_counts(bench: Bench) -> None:
    bench.publish("a")
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON) as client:
        rule = {"arms": [{"adapter": "a"}]}
        assert (await client.put("/v1/tasks/greet", json=rule)).status_code in (200, 201)
        await ask(client, "task:greet")
        assert names(await next_forecast(engine)) == ["a"]


async def test_what_was_deleted_is_passed_over(bench: Bench) -> None:
    bench.publish("a", seed=1)
    bench.publish("b", seed=2)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON) as client:
        await ask(client, "a", 3)
        await ask(client, "b")
        bench.store.delete(parse_adapter_name("a"))
        assert names(await next_forecast(engine)) == ["b"]


async def test_a_pin_goes_with_an_adapter_that_was_deleted_behind_the_servers_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        bench.publish(name, seed=seed)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON) as client:

        async def pins() -> Any:
            return (await client.get("/v1/adapter_usage")).json()["pins"]

        for name in ("a", "b", "c"):
            assert (await client.post(f"/v1/adapters/{name}/pin", json={})).status_code == 200
        aside = bench.store.root / "names-aside"
        (bench.store.root / "names").rename(aside)
        await next_forecast(engine)
        aside.rename(bench.store.root / "names")
        assert await pins() == ["a", "b", "c"]  # a store that is gone says nothing of an adapter
        bench.store.delete(parse_adapter_name("b"))
        await next_forecast(engine)
        await next_forecast(engine)
        assert await pins() == ["a", "c"]
    assert "no longer pinned, since the store has no such adapter: b" in caplog.text


async def test_no_more_than_the_top_are_foretold(bench: Bench) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        bench.publish(name, seed=seed)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON, preload_top=2) as client:
        for times, name in enumerate(("a", "b", "c"), start=1):
            await ask(client, name, times)
        assert names(await next_forecast(engine)) == ["c", "b"]


async def test_pins_and_schedules_come_first_also_without_predictions(bench: Bench, tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        bench.publish(name, seed=seed)
    plan = tmp_path / "plan.json"
    always = {"adapters": ["c"], "from": "00:00", "to": "00:00"}
    plan.write_text(json.dumps({"pins": ["b"], "schedules": [always]}))
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON, preload_plan=plan) as client:
        await ask(client, "a")
        forecast = await next_forecast(engine)
    assert [(one.version.name, one.pinned) for one in forecast.versions] == [("b", True), ("c", True), ("a", False)]
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON, preload_plan=plan, preload=False) as client:
        await ask(client, "a")
        assert names(await next_forecast(engine)) == ["b", "c"]


async def test_a_plan_is_read_again_when_it_changes(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, name in enumerate(("a", "b")):
        bench.publish(name, seed=seed)
    plan = tmp_path / "plan.json"
    plan.write_text('{"pins": ["a", "absent"]}')
    engine = bench.engine(saying([]))
    with caplog.at_level(logging.WARNING):
        async with serving(bench, engine, **SOON, preload_plan=plan):
            assert names(await next_forecast(engine)) == ["a"]
            plan.write_text('{"pins": ["b"]}')
            assert names(await next_forecast(engine)) == ["b"]
            plan.write_text('{"pin": ["a"]}')
            assert names(await next_forecast(engine)) == ["b"]
    told = [record.getMessage() for record in caplog.records if "preloading" in record.name]
    assert sum("absent is to be resident" in text for text in told) == 1
    assert any("plan.json is not valid" in text and "holds on" in text for text in told)


async def test_a_new_engine_hears_of_it_at_once(bench: Bench) -> None:
    bench.publish("a")
    engine = bench.engine(saying([]))
    async with serving(bench, engine, preload_interval=60) as client:
        await ask(client, "a")
        engine.status = "restarting"
        await asyncio.sleep(0.3)
        before = len(engine.forecasts)
        engine.restarts, engine.status = 1, "ready"
        await until(lambda: len(engine.forecasts) > before)
    assert names(engine.forecasts[-1]) == ["a"]


async def test_history_is_kept_so_that_a_start_is_warm(bench: Bench) -> None:
    bench.publish("a")
    async with serving(bench, bench.engine(saying([])), preload_interval=60) as client:
        await ask(client, "a", 3)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, preload_interval=60):
        await until(lambda: engine.forecasts)
    assert names(engine.forecasts[0]) == ["a"]


async def test_a_damaged_history_stops_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.publish("a")
    path = tmp_path / "history"
    path.write_bytes(b"\x00" * 100)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, **SOON, traffic_history=path) as client:
        await ask(client, "a")
        assert names(await next_forecast(engine)) == ["a"]
    model = TrafficModel()
    TrafficHistory(path).load(model)
    assert "a" in model


async def test_a_history_that_cannot_be_written_is_told(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.publish("a")
    (tmp_path / "file").write_text("")
    async with serving(bench, bench.engine(saying([])), traffic_history=tmp_path / "file" / "history") as client:
        await ask(client, "a")
    assert "cannot be written" in caplog.text


async def test_a_store_that_fails_does_not_end_the_preloading(bench: Bench) -> None:
    def failing(ref: AdapterRef) -> Any:
        raise OSError("the disk hangs")

    engine = bench.engine(saying([]))
    engine.status = "ready"
    settings = Settings(cache_dir=bench.scratch)
    preloader = Preloader.of_settings(settings, bench.store.root, engine, failing)
    preloader.model.observe("a", 1e9)
    await preloader.foretell()
    assert engine.forecasts == [Forecast(versions=[])]


def test_every_store_has_a_history_of_its_own(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    paths = {history_path(settings, tmp_path / name) for name in ("one", "two")}
    assert len(paths) == 2
    assert {path.parent for path in paths} == {tmp_path / "traffic"}
    named = Settings(traffic_history=tmp_path / "mine")
    assert history_path(named, tmp_path / "one") == tmp_path / "mine"
