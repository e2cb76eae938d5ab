"""Metrics of requests, as the clients meet them."""

from collections.abc import Callable
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.api.metrics.adapter_labels import AdapterLabels
from server.api.routing.fallback_causes import FALLBACK_CAUSES, FallbackCause

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


class RequestMetrics:
    """Counts and times requests, each of their choices as one. Adapter labels come from a bounded set."""

    def __init__(
        self,
        registry: CollectorRegistry,
        labels: AdapterLabels,
        tenant_labels: AdapterLabels,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.clock = clock
        self.labels = labels
        self.tenant_labels = tenant_labels
        self.http_responses = Counter(
            "switchyard_http_responses",
            "HTTP answers by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.internal_errors = Counter(
            "switchyard_internal_errors",
            "HTTP answers with status 500; 0 from the start, so that the first one is an increase.",
            registry=registry,
        )
        self.requests = Counter(
            "switchyard_requests",
            "Choices of requests that ended, by outcome (stop, length, failed, disconnected) and adapter asked for.",
            ["outcome", "adapter"],
            registry=registry,
        )
        self.refused = Counter(
            "switchyard_requests_refused",
            "Generation requests that were refused before they reached the engine, by error code.",
            ["code"],
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "switchyard_prompt_tokens",
            "Prompt tokens of choices that started, by adapter asked for.",
            ["adapter"],
            registry=registry,
        )
        self.generation_tokens = Counter(
            "switchyard_generation_tokens", "Generated tokens, by adapter asked for.", ["adapter"], registry=registry
        )
        self.tenant_tokens = Counter(
            "switchyard_tenant_tokens",
            "Tokens of prompts that started and tokens generated, by tenant (empty: the base, adapters without one).",
            ["tenant"],
            registry=registry,
        )
        self.deadline_exceeded = Counter(
            "switchyard_deadline_exceeded",
            "Choices of requests that could not be answered within their own timeout.",
            registry=registry,
        )
        self.fallbacks = Counter(
            "switchyard_adapter_fallbacks",
            "Requests that the base answered in the place of their adapter, by reason.",
            ["reason"],
            registry=registry,
        )
        self.refusals = Counter(
            "switchyard_adapter_refusals",
            "Requests that allowed no fallback and ended with an error in the place of their adapter, by reason.",
            ["reason"],
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "switchyard_queue_seconds",
            "Seconds from acceptance to the start of the prompt: queue, window and adapter load together.",
            buckets=SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "switchyard_time_to_first_token_seconds",
            "Seconds from acceptance to the first token.",
            buckets=SECONDS,
            registry=registry,
        )
        self.token_seconds = Histogram(
            "switchyard_time_per_output_token_seconds",
            "Mean seconds per token of a request after its first.",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self.request_seconds = Histogram(
            "switchyard_request_seconds",
            "Seconds from acceptance to the last token.",
            buckets=SECONDS,
            registry=registry,
        )
        self.vllm_first_token_seconds = Histogram(
            "vllm:time_to_first_token_seconds",
            "Seconds from acceptance to the first token, under vLLM's name.",
            ["model_name"],
            buckets=SECONDS,
            registry=registry,
        )
        for reason in FALLBACK_CAUSES:
            self.fallbacks.labels(reason)
            self.refusals.labels(reason)

    def begin(self, adapter: str, prompt_tokens: int, model_name: str, tenant: str = "") -> "RequestRecord":
        """A request was handed to the engine; `tenant` is empty where the adapter has none."""
        tenant_label = self.tenant_labels.of(tenant) if tenant else ""
        return RequestRecord(self, self.labels.of(adapter), tenant_label, prompt_tokens, model_name)


class RequestRecord:
    """The times of one choice; `end` is called once, whatever happened."""

    def __init__(
        self, metrics: RequestMetrics, label: str, tenant_label: str, prompt_tokens: int, model_name: str
    ) -> None:
        self._metrics = metrics
        self._label = label
        self._tenant_label = tenant_label
        self._prompt_tokens = prompt_tokens
        self._model_name = model_name
        self._begun = metrics.clock()
        self._first: float | None = None

    def started(self, fallback: FallbackCause | None) -> None:
        """The adapter's fate is known and the prompt runs: on the base for the reason `fallback`, where it has one."""
        self._metrics.queue_seconds.observe(self._metrics.clock() - self._begun)
        self._metrics.prompt_tokens.labels(self._label).inc(self._prompt_tokens)
        self._metrics.tenant_tokens.labels(self._tenant_label).inc(self._prompt_tokens)
        if fallback is not None:
            self._metrics.fallbacks.labels(fallback).inc()

    def refused(self, reason: FallbackCause) -> None:
        """The adapter could not be applied and the request allowed no fallback."""
        self._metrics.refusals.labels(reason).inc()

    def late(self) -> None:
        """The request could not be answered in its time."""
        self._metrics.deadline_exceeded.inc()

    def first_token(self) -> None:
        """The first token has come."""
        self._first = self._metrics.clock()
        waited = self._first - self._begun
        self._metrics.first_token_seconds.observe(waited)
        self._metrics.vllm_first_token_seconds.labels(self._model_name).observe(waited)

    def end(self, outcome: str, tokens: int) -> float:
        """The request ended after `tokens` tokens; returns the seconds that it took."""
        now = self._metrics.clock()
        self._metrics.requests.labels(outcome, self._label).inc()
        self._metrics.generation_tokens.labels(self._label).inc(tokens)
        self._metrics.tenant_tokens.labels(self._tenant_label).inc(tokens)
        self._metrics.request_seconds.observe(now - self._begun)
        if self._first is not None and tokens > 1:
            self._metrics.token_seconds.observe((now - self._first) / (tokens - 1))
        return now - self._begun
