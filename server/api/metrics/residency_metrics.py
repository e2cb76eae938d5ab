"""Metrics of where adapters are: lookups by tier, loads by source and stage, evictions, preloads."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.api.metrics.request_metrics import SECONDS
from server.engine.messages import FALLBACK_REASONS, EvictionReport, LoadReport, LookupReport, PreloadReport

DEVICE_TIER = "device"
HOST_TIER = "host"
STORE_TIER = "store"

_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ResidencyMetrics:
    """Fed with the engine's reports of lookups, loads, evictions and preloads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cache(registry)
        self._loading(registry)
        self._leaving(registry)
        self._vllm(registry)

    def looked_up(self, report: LookupReport) -> None:
        """A request asked for an adapter. Host memory is looked at only where the device has not got it."""
        self._vllm_lookups.inc()
        self._looked_up(DEVICE_TIER, hit=report.hit)
        if report.hit:
            self._vllm_hits.inc()
        else:
            self._looked_up(HOST_TIER, hit=report.tier == HOST_TIER)

    def loaded(self, report: LoadReport) -> None:
        """A load onto the device ended."""
        self._loads.labels(report.failure or "loaded").inc()
        if report.failure is not None:
            return
        self._load_seconds.labels(report.source).observe(report.seconds)
        self._vllm_load_seconds.observe(report.seconds)
        if report.source == STORE_TIER:
            self._stage_seconds.labels("hash").observe(report.hash_seconds)
            self._stage_seconds.labels("read").observe(report.read_seconds)
        self._stage_seconds.labels("copy").observe(report.copy_seconds)

    def evicted(self, report: EvictionReport) -> None:
        """A version left a tier."""
        self._evictions.labels(report.tier, report.reason).inc()

    def preloaded(self, report: PreloadReport) -> None:
        """A preload ended, as useful or as wasted."""
        self._preloads.labels(report.outcome).inc()

    def _looked_up(self, tier: str, *, hit: bool) -> None:
        self._lookups.labels(tier).inc()
        (self._hits if hit else self._misses).labels(tier).inc()

    def _cache(self, registry: CollectorRegistry) -> None:
        self._lookups = Counter(
            "switchyard_adapter_cache_lookups",
            "Times a request asked for an adapter, by tier; host memory after a miss on the device.",
            ["tier"],
            registry=registry,
        )
        self._hits = Counter(
            "switchyard_adapter_cache_hits",
            "Times the adapter asked for was there, by tier.",
            ["tier"],
            registry=registry,
        )
        self._misses = Counter(
            "switchyard_adapter_cache_misses",
            "Times the adapter asked for was not there, by tier.",
            ["tier"],
            registry=registry,
        )
        for counter in (self._lookups, self._hits, self._misses):
            for tier in (DEVICE_TIER, HOST_TIER):
                counter.labels(tier)

    def _loading(self, registry: CollectorRegistry) -> None:
        self._loads = Counter(
            "switchyard_adapter_loads",
            "Adapter loads onto the device by outcome: loaded, or the reason of the failure.",
            ["outcome"],
            registry=registry,
        )
        self._load_seconds = Histogram(
            "switchyard_adapter_load_seconds",
            "Seconds of an adapter load that succeeded, preloads included, by where it came from.",
            ["source"],
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "switchyard_adapter_load_stage_seconds",
            "Seconds of the stages of a load that succeeded; from host memory there is only the copy.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self._preloads = Counter(
            "switchyard_adapter_preloads",
            "Preloads that ended: useful with the first request that they served, wasted when they left unused.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("loaded", *FALLBACK_REASONS):
            self._loads.labels(outcome)
        for source in (HOST_TIER, STORE_TIER):
            self._load_seconds.labels(source)
        for stage in ("hash", "read", "copy"):
            self._stage_seconds.labels(stage)
        for outcome in ("useful", "wasted"):
            self._preloads.labels(outcome)

    def _leaving(self, registry: CollectorRegistry) -> None:
        self._evictions = Counter(
            "switchyard_adapter_evictions",
            "Adapters that left a tier, by reason.",
            ["tier", "reason"],
            registry=registry,
        )
        for tier in (DEVICE_TIER, HOST_TIER):
            for reason in ("capacity", "unload"):
                self._evictions.labels(tier, reason)

    def _vllm(self, registry: CollectorRegistry) -> None:
        self._vllm_lookups = Counter(
            "vllm:lora_cache_lookups", "Times a request asked for an adapter, under vLLM's name.", registry=registry
        )
        self._vllm_hits = Counter(
            "vllm:lora_cache_hits",
            "Times the adapter asked for was on the device, under vLLM's name.",
            registry=registry,
        )
        self._vllm_load_seconds = Histogram(
            "vllm:lora_adapter_load_seconds",
            "Seconds of an adapter load that succeeded, under vLLM's name.",
            buckets=SECONDS,
            registry=registry,
        )
