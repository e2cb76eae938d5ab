"""What the engine holds now, from its last snapshot."""

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.engine.messages import EngineState


class StateCollector(Collector):
    """Draws the gauges when they are read; `state` gives None while there is no engine to speak of."""

    def __init__(self, state: Callable[[], EngineState | None]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """All families; without samples where there is no state."""
        state = self._state()
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(name, text, value=read(state) if state is not None else None)
        yield _device_pages(state)


def _device_pages(state: EngineState | None) -> Metric:
    family = GaugeMetricFamily(
        "switchyard_device_pages",
        "Pages of the device's memory, by who holds them: running rows (`kv`), kept prefixes, adapters, or nobody.",
        labels=["holder"],
    )
    if state is not None:
        for holder in ("kv", "prefix", "adapters", "free"):
            family.add_metric([holder], getattr(state.pages, holder))
    return family


_GAUGES: tuple[tuple[str, str, Callable[[EngineState], float]], ...] = (
    ("switchyard_requests_running", "Requests that have a row in the batch.", lambda state: state.running),
    (
        "switchyard_requests_waiting",
        "Requests that wait for a row or for their adapter.",
        lambda state: state.waiting,
    ),
    (
        "switchyard_oldest_waiting_seconds",
        "Seconds for which the oldest request without a row has been in the engine.",
        lambda state: state.oldest_waiting_seconds,
    ),
    ("switchyard_adapter_bytes", "Bytes of the adapters on the device.", lambda state: state.adapter_bytes),
    (
        "switchyard_adapter_budget_bytes",
        "Bytes that adapters may have on the device, beside the keys and values of running rows.",
        lambda state: state.adapter_budget_bytes,
    ),
    ("switchyard_adapters_resident", "Adapter versions on the device.", lambda state: len(state.resident)),
    (
        "switchyard_adapters_pinned",
        "Adapter versions on the device that running rows use.",
        lambda state: sum(adapter.pinned for adapter in state.resident),
    ),
    ("switchyard_adapter_host_bytes", "Bytes of the adapters in host memory.", lambda state: state.host_bytes),
    (
        "switchyard_adapter_host_budget_bytes",
        "Bytes that adapters may take in host memory.",
        lambda state: state.host_budget_bytes,
    ),
    ("switchyard_adapters_in_host", "Adapter versions in host memory.", lambda state: state.host.count),
    ("switchyard_kv_blocks_used", "Blocks of the KV cache in use.", lambda state: state.kv_blocks_used),
    (
        "switchyard_kv_blocks",
        "Blocks that the KV cache may have, beside the adapters on the device.",
        lambda state: state.kv_blocks_total,
    ),
)
