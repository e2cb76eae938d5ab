"""What a server's `GET /metrics` says of its adapters and their cache."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_COUNTERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "device_hits": ("switchyard_adapter_cache_hits_total", {"tier": "device"}),
    "device_misses": ("switchyard_adapter_cache_misses_total", {"tier": "device"}),
    "host_hits": ("switchyard_adapter_cache_hits_total", {"tier": "host"}),
    "host_misses": ("switchyard_adapter_cache_misses_total", {"tier": "host"}),
    "loads": ("switchyard_adapter_loads_total", {"outcome": "loaded"}),
    "load_seconds_sum": ("switchyard_adapter_load_seconds_sum", {}),
    "load_seconds_count": ("switchyard_adapter_load_seconds_count", {}),
    "evictions": ("switchyard_adapter_evictions_total", {}),
    "preloads_useful": ("switchyard_adapter_preloads_total", {"outcome": "useful"}),
    "preloads_wasted": ("switchyard_adapter_preloads_total", {"outcome": "wasted"}),
    "fallbacks": ("switchyard_adapter_fallbacks_total", {}),
    "prompt_tokens": ("switchyard_prompt_tokens_total", {}),
    "generation_tokens": ("switchyard_generation_tokens_total", {}),
}
_RESIDENT = "vllm:lora_requests_info"


@dataclass(frozen=True)
class Scrape:
    """One reading. `counters` only rise; `gauges` are of the moment; `resident` are the adapters on the device."""

    counters: Mapping[str, float]
    gauges: Mapping[str, float]
    resident: tuple[str, ...]


def read_scrape(text: str) -> Scrape:
    """Read the text format of Prometheus.

    Raises:
        ValueError: it is none.
    """
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    counters = {
        ours: sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())
        for ours, (name, labels) in _COUNTERS.items()
    }
    gauges = {
        name.removeprefix("switchyard_"): sample.value
        for sample in samples
        if (name := sample.name) in _GAUGES and not sample.labels
    }
    resident = next((s.labels.get("running_lora_adapters", "") for s in samples if s.name == _RESIDENT), "")
    return Scrape(counters, gauges, tuple(name for name in resident.split(",") if name))


def rise(before: Scrape, after: Scrape) -> dict[str, float]:
    """By how much each counter rose."""
    return {name: after.counters[name] - before.counters[name] for name in after.counters}


def _gauges(names: Iterable[str]) -> frozenset[str]:
    return frozenset(f"switchyard_{name}" for name in names)


_GAUGES = _gauges(
    (
        "adapter_bytes",
        "adapter_budget_bytes",
        "adapter_host_bytes",
        "adapter_host_budget_bytes",
        "adapters_resident",
        "adapters_in_host",
        "requests_running",
        "requests_waiting",
    )
)
