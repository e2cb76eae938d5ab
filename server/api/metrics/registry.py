"""All metrics of one application, in a registry of its own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, Info, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server.api.metrics.adapter_labels import AdapterLabels
from server.api.metrics.engine_metrics import EngineMetrics
from server.api.metrics.request_metrics import RequestMetrics
from server.api.metrics.task_metrics import TaskMetrics
from server.api.metrics.vllm_metrics import VllmCollector, VllmView
from server.engine.interface import Engine
from server.engine.messages import ModelInfo


class _EngineHealth(Collector):
    """What is asked of the engine at the moment the metrics are read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        up = float(self._engine.status == "ready")
        yield GaugeMetricFamily("switchyard_engine_up", "1 while the engine takes requests, else 0.", value=up)
        yield CounterMetricFamily(
            "switchyard_engine_restarts",
            "Times the engine was started anew after it died.",
            value=self._engine.restarts,
        )


class _WithoutCreationTimes(Collector):
    """A registry without the `_created` series, which double the answer and which nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Metrics:
    """`requests` and `tasks` are fed by the routes, `engine` by the engine's reports.

    At most `adapter_labels` adapters, and as many tasks and tenants, get a label of their own.
    """

    def __init__(self, engine: Engine, *, adapter_labels: int) -> None:
        self.registry = CollectorRegistry()
        labels = AdapterLabels(adapter_labels)
        self.requests = RequestMetrics(self.registry, labels, AdapterLabels(adapter_labels))
        self.tasks = TaskMetrics(self.registry, adapter_labels)
        self.engine = EngineMetrics(self.registry, engine)
        self._model_name = ""
        self._max_adapters = 0
        self._base = Info("switchyard_base", "The resident base model.", registry=self.registry)
        self._base_bytes = Gauge(
            "switchyard_base_resident_bytes", "Bytes of the resident base model's weights.", registry=self.registry
        )
        self.registry.register(_EngineHealth(engine))
        self.registry.register(VllmCollector(labels, self._vllm_view))

    def describe_base(self, served_name: str, info: ModelInfo) -> None:
        """The engine is ready with this base."""
        self._model_name = served_name
        self._max_adapters = info.max_rows
        self._base_bytes.set(info.resident_bytes)
        self._base.info(
            {
                "model_name": served_name,
                "architecture": info.architecture,
                "quantization": info.quantization,
                "numerics": info.numerics,
                "kernels": info.kernels,
                "device": info.device,
            }
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text in the format that an `Accept` header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(_WithoutCreationTimes(self.registry)), content_type

    def _vllm_view(self) -> VllmView:
        return VllmView(self._model_name, self._max_adapters, self.engine.state)
