"""`/metrics`: what clients met, what the engine reported, and the names that gateways for vLLM read."""

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters_store import AdapterStore
from server.engine.messages import (
    DevicePages,
    EngineState,
    EvictionReport,
    Failed,
    GroupReport,
    LoadReport,
    LookupReport,
    ResidentAdapter,
    StepReport,
    Submit,
)
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import ScriptedEngine, model_info, saying

pytestmark = pytest.mark.anyio

DIGEST = "sha256:" + "1" * 64


class Scrape:
    """One reading of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for sample, labels in self.samples if sample == name]


async def scrape(client: httpx.AsyncClient) -> Scrape:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(response.text)


def state(**fields: Any) -> EngineState:
    known: dict[str, Any] = {
        "running": 3,
        "waiting": 2,
        "kv_blocks_used": 16,
        "kv_blocks_total": 64,
        "prefix_hit_tokens": 100,
        "prefix_lookup_tokens": 400,
        "preemptions": 1,
        "rows_taken_back": 2,
        "adapter_bytes": 1000,
        "adapter_budget_bytes": 5000,
        "resident": [],
        "waiting_adapters": [],
    }
    return EngineState(**(known | fields))


async def test_requests_and_tokens_by_outcome_and_adapter(bench: Bench) -> None:
    bench.publish("support")
    engine = bench.engine(saying([5, 6, 7], "length"))
    async with serving(bench, engine) as client:
        for model in ("base", "support", "support"):
            assert (await client.post("/v1/completions", json={"model": model, "prompt": [1, 2]})).status_code == 200
        read = await scrape(client)
    assert read("switchyard_requests_total", outcome="length", adapter="base") == 1
    assert read("switchyard_requests_total", outcome="length", adapter="support") == 2
    assert read("switchyard_prompt_tokens_total", adapter="support") == 4
    assert read("switchyard_generation_tokens_total", adapter="support") == 6
    for name in (
        "switchyard_queue_seconds",
        "switchyard_time_to_first_token_seconds",
        "switchyard_time_per_output_token_seconds",
        "switchyard_request_seconds",
    ):
        assert read(f"{name}_count") == 3
    assert read("vllm:time_to_first_token_seconds_count", model_name="org/tiny") == 3


async def test_refusals_by_code_and_answers_by_route(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        await client.post("/v1/completions", json={"model": "nobody", "prompt": "x"})
        await client.post("/v1/completions", json={"model": "base", "prompt": "x", "suffix": "y"})
        await client.get("/v1/models/nobody")
        await client.get("/some/path/that/is/not/there")
        read = await scrape(client)
    assert read("switchyard_requests_refused_total", code="model_not_found") == 1
    assert read("switchyard_requests_refused_total", code="unsupported_parameter") == 1
    responses = "switchyard_http_responses_total"
    assert read(responses, method="POST", route="/v1/completions", status="404") == 1
    assert read(responses, method="POST", route="/v1/completions", status="400") == 1
    assert read(responses, method="GET", route="/v1/models/{name:path}", status="404") == 1
    assert read(responses, method="GET", route="none", status="404") == 1


async def test_answers_with_500_are_counted_from_zero_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: AdapterStore, *_of_a_page: object) -> None:
        raise RuntimeError("broken")

    async with serving(bench, bench.engine(saying([]))) as client:
        await client.get("/v1/models/nobody")
        assert (await scrape(client))("switchyard_internal_errors_total") == 0
        monkeypatch.setattr(AdapterStore, "page", broken)
        assert (await client.get("/v1/adapters")).status_code == 500
        assert (await scrape(client))("switchyard_internal_errors_total") == 1


async def test_fallbacks_by_reason(bench: Bench) -> None:
    bench.publish("support")
    engine = bench.engine(saying([], digest=None, fallback="too_large"))
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json={"model": "support", "prompt": "x"})
        read = await scrape(client)
    assert read("switchyard_adapter_fallbacks_total", reason="too_large") == 1
    assert read("switchyard_adapter_fallbacks_total", reason="timeout") == 0


async def test_strict_refusals_by_reason(bench: Bench) -> None:
    bench.publish("support")

    def refusing(request: Submit) -> list[Failed]:
        message = "its files are damaged"
        code, reason = "adapter_unavailable", "checksum_mismatch"
        return [Failed(request_id=request.request_id, code=code, message=message, reason=reason)]  # type: ignore[arg-type]

    async with serving(bench, bench.engine(refusing)) as client:
        body = {"model": "support", "prompt": "x", "fallback": "error"}
        assert (await client.post("/v1/completions", json=body)).status_code == 503
        read = await scrape(client)
    assert read("switchyard_adapter_refusals_total", reason="checksum_mismatch") == 1
    assert read("switchyard_adapter_refusals_total", reason="timeout") == 0
    assert read("switchyard_adapter_fallbacks_total", reason="checksum_mismatch") == 0


async def test_adapters_beyond_the_bound_share_a_label(bench: Bench) -> None:
    names = ["one", "two", "three", "four"]
    for seed, name in enumerate(names):
        bench.publish(name, seed=seed)
    engine = bench.engine(saying([]))
    async with serving(bench, engine, metrics_adapter_labels=2) as client:
        for name in ("base", *names, *names):
            await client.post("/v1/completions", json={"model": name, "prompt": "x"})
        resident = [ResidentAdapter(name=name, digest=DIGEST, rank=8, size_bytes=10, pinned=False) for name in names]
        engine.report(state(resident=resident))
        read = await scrape(client)
    counted = {labels["adapter"] for labels in read.labels("switchyard_requests_total")}
    assert counted == {"base", "one", "two", "other"}
    assert read("switchyard_requests_total", outcome="stop", adapter="other") == 4
    loaded = read.labels("vllm:lora_adapter_loaded")
    assert {labels["adapter_name"] for labels in loaded} == {"one", "two", "other"}
    assert read("vllm:lora_adapter_loaded", adapter_name="other", level="device", pinned="false", rank="8") == 2


async def test_steps_groups_lookups_loads_and_evictions(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        engine.report(StepReport(seconds=0.03, rows=5, decode_rows=4, prefill_tokens=64, adapters=3))
        engine.report(GroupReport(digest=DIGEST, size=4, held_seconds=0.008, waited_seconds=0.5))
        engine.report(LookupReport(name="a", digest="sha256:a", tier="device"))
        engine.report(LookupReport(name="a", digest="sha256:a", tier="store"))
        load = {"name": "support", "digest": DIGEST, "seconds": 0.2, "size_bytes": 10, "rank": 8}
        engine.report(LoadReport(**load))  # type: ignore[arg-type]
        engine.report(LoadReport(**load, failure="checksum_mismatch"))  # type: ignore[arg-type]
        engine.report(EvictionReport(name="support", digest=DIGEST, reason="capacity", size_bytes=10))
        read = await scrape(client)
    assert read("switchyard_step_seconds_sum") == 0.03
    assert read("switchyard_batch_rows_sum") == 5
    assert read("switchyard_batch_decode_rows_sum") == 4
    assert read("switchyard_batch_adapters_sum") == 3
    assert read("switchyard_step_prefill_tokens_sum") == 64
    assert read("switchyard_group_size_sum") == 4
    assert read("switchyard_window_held_seconds_sum") == 0.008
    assert read("switchyard_group_waited_seconds_sum") == 0.5
    assert read("switchyard_adapter_cache_lookups_total", tier="device") == 2
    assert read("switchyard_adapter_cache_hits_total", tier="device") == 1
    assert read("switchyard_adapter_cache_misses_total", tier="device") == 1
    assert read("vllm:lora_cache_lookups_total") == 2
    assert read("vllm:lora_cache_hits_total") == 1
    assert read("switchyard_adapter_loads_total", outcome="loaded") == 1
    assert read("switchyard_adapter_loads_total", outcome="checksum_mismatch") == 1
    assert read("switchyard_adapter_load_seconds_count", source="store") == 1
    assert read("vllm:lora_adapter_load_seconds_count") == 1
    assert read("switchyard_adapter_evictions_total", tier="device", reason="capacity") == 1


async def test_the_engines_state_as_gauges(bench: Bench) -> None:
    engine = bench.engine(saying([]), max_rows=7)
    resident = [
        ResidentAdapter(name="b", digest=DIGEST, rank=8, size_bytes=10, pinned=True),
        ResidentAdapter(name="a", digest=DIGEST, rank=16, size_bytes=10, pinned=False),
    ]
    async with serving(bench, engine) as client:
        before = await scrape(client)
        pages = DevicePages(total=20, kv=8, prefix=5, adapters=4)
        engine.report(state(resident=resident, waiting_adapters=["c", "c"], pages=pages))
        read = await scrape(client)
    assert before.labels("vllm:lora_requests_info") == []
    assert read("switchyard_requests_running") == read("vllm:num_requests_running", model_name="org/tiny") == 3
    assert read("switchyard_requests_waiting") == read("vllm:num_requests_waiting", model_name="org/tiny") == 2
    assert (read("switchyard_kv_blocks_used"), read("switchyard_kv_blocks")) == (16, 64)
    assert read("vllm:kv_cache_usage_perc", model_name="org/tiny") == 0.25
    assert (read("switchyard_adapter_bytes"), read("switchyard_adapter_budget_bytes")) == (1000, 5000)
    assert (read("switchyard_adapters_resident"), read("switchyard_adapters_pinned")) == (2, 1)
    holders = ("kv", "prefix", "adapters", "free")
    assert [read("switchyard_device_pages", holder=holder) for holder in holders] == [8, 5, 4, 3]
    (info,) = read.labels("vllm:lora_requests_info")
    assert info == {"max_lora": "7", "running_lora_adapters": "a,b", "waiting_lora_adapters": "c"}
    assert read("vllm:lora_requests_info", **info) > 1.6e9
    assert read("vllm:lora_adapter_loaded", adapter_name="b", level="device", pinned="true", rank="8") == 1


async def test_the_gauges_of_an_engine_that_died_are_gone_until_the_next_one_reports(bench: Bench) -> None:
    gauges = ("switchyard_requests_running", "switchyard_kv_blocks_used", "vllm:num_requests_running")
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:

        async def drawn() -> set[str]:
            read = await scrape(client)
            return {name for name in gauges if read.labels(name)}

        engine.report(state(running=3))
        assert await drawn() == set(gauges)
        engine.status = "restarting"
        assert await drawn() == set()
        engine.restarts, engine.status = 1, "ready"
        assert await drawn() == set()
        engine.report(state(running=0))
        assert (await scrape(client))("switchyard_requests_running") == 0


async def test_totals_survive_an_engine_restart(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        for hits, preemptions, taken in ((100, 1, 0), (150, 1, 4), (30, 2, 1)):
            engine.report(state(prefix_hit_tokens=hits, preemptions=preemptions, rows_taken_back=taken))
        engine.restarts = 1
        read = await scrape(client)
    assert read("switchyard_prefix_hit_tokens_total") == 180
    assert read("switchyard_preemptions_total") == 2
    assert read("switchyard_rows_taken_back_total") == 5
    assert read("switchyard_engine_restarts_total") == 1


async def test_all_of_a_new_engines_totals_count_however_large_the_first_are(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        engine.report(state(prefix_hit_tokens=100, prefix_lookup_tokens=200, preemptions=1))
        engine.restarts = 1
        for hits in (300, 350):
            engine.report(state(prefix_hit_tokens=hits, prefix_lookup_tokens=400, preemptions=1))
        read = await scrape(client)
    assert read("switchyard_prefix_hit_tokens_total") == 450
    assert read("switchyard_prefix_lookup_tokens_total") == 600
    assert read("switchyard_preemptions_total") == 2


async def test_the_engine_is_up_or_not(bench: Bench) -> None:
    engine = bench.engine(saying([]))
    async with serving(bench, engine) as client:
        assert (await scrape(client))("switchyard_engine_up") == 1
        engine.status = "restarting"
        assert (await scrape(client))("switchyard_engine_up") == 0


async def test_the_base_is_described(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        read = await scrape(client)
    (labels,) = read.labels("switchyard_base_info")
    assert (labels["model_name"], labels["device"], labels["numerics"]) == ("org/tiny", "cpu", "exact")
    assert read("switchyard_base_resident_bytes") == model_info(bench.base).resident_bytes


async def test_two_applications_share_no_metrics(bench: Bench) -> None:
    first, second = (ScriptedEngine(model_info(bench.base), saying([])) for _ in range(2))
    async with serving(bench, first) as one, serving(bench, second) as other:
        first.report(LookupReport(name="a", digest="sha256:a", tier="device"))
        assert (await scrape(one))("vllm:lora_cache_hits_total") == 1
        assert (await scrape(other))("vllm:lora_cache_hits_total") == 0


async def test_every_metric_has_a_help_text_and_no_creation_time(bench: Bench) -> None:
    engine = bench.engine(saying([5]))
    async with serving(bench, engine) as client:
        await client.post("/v1/completions", json={"model": "base", "prompt": "x"})
        engine.report(state())
        text = (await client.get("/metrics")).text
        read = Scrape(text)
    assert len(read.families) > 40
    assert [name for name, family in read.families.items() if not family.documentation.endswith(".")] == []
    assert "_created" not in text


async def test_openmetrics_when_asked_for(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying([]))) as client:
        headers = {"accept": "application/openmetrics-text; version=1.0.0"}
        response = await client.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
