"""The engine's state under the names that gateways and dashboards for vLLM read."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.api.metrics.adapter_labels import AdapterLabels
from server.engine.messages import EngineState


@dataclass(frozen=True)
class VllmView:
    """What these gauges are drawn from, at the moment they are read.

    `max_adapters` is the number of different adapters that one batch may hold, vLLM's `max_loras`.
    """

    model_name: str
    max_adapters: int
    state: EngineState | None


class VllmCollector(Collector):
    """Draws the gauges when they are read: their labels change with every load and eviction."""

    def __init__(self, labels: AdapterLabels, view: Callable[[], VllmView]) -> None:
        self._labels = labels
        self._view = view

    def collect(self) -> Iterable[Metric]:
        """All families; without samples where there is no state."""
        view = self._view()
        yield self._requests_info(view)
        yield self._loaded(view)
        yield from self._requests(view)

    def _requests_info(self, view: VllmView) -> Metric:
        family = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Adapters on the device (running) and adapters that requests wait for; the value is the Unix time.",
            labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
        )
        state = view.state
        if state is not None:
            running = ",".join(sorted({adapter.name for adapter in state.resident}))
            waiting = ",".join(sorted(set(state.waiting_adapters)))
            family.add_metric([str(view.max_adapters), running, waiting], time.time())
        return family

    def _loaded(self, view: VllmView) -> Metric:
        family = GaugeMetricFamily(
            "vllm:lora_adapter_loaded",
            "Adapter versions loaded, in host memory those used latest, by name, memory level, whether running rows "
            "use them, and rank.",
            labels=["adapter_name", "level", "pinned", "rank"],
        )
        levels = {} if view.state is None else {"device": view.state.resident, "host": view.state.host.latest}
        versions = Counter(
            (self._labels.of(adapter.name), level, str(adapter.pinned).lower(), str(adapter.rank))
            for level, adapters in levels.items()
            for adapter in adapters
        )
        for labels, count in sorted(versions.items()):
            family.add_metric(labels, count)
        return family

    def _requests(self, view: VllmView) -> Iterable[Metric]:
        for name, text, read in _STATE_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["model_name"])
            if view.state is not None:
                family.add_metric([view.model_name], read(view.state))
            yield family


def _kv_share(state: EngineState) -> float:
    return state.kv_blocks_used / state.kv_blocks_total if state.kv_blocks_total else 0.0


_STATE_GAUGES: tuple[tuple[str, str, Callable[[EngineState], float]], ...] = (
    (
        "vllm:num_requests_running",
        "Requests that have a row in the batch, under vLLM's name.",
        lambda state: state.running,
    ),
    (
        "vllm:num_requests_waiting",
        "Requests that wait for a row or for their adapter, under vLLM's name.",
        lambda state: state.waiting,
    ),
    ("vllm:kv_cache_usage_perc", "Share of the KV cache's blocks in use, 0 to 1, under vLLM's name.", _kv_share),
)
