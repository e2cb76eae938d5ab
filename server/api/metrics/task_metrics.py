"""Metrics of task routes and of their shadows. Labels come from bounded sets."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.api.metrics.adapter_labels import OTHER, AdapterLabels
from server.api.metrics.request_metrics import SECONDS

ShadowOutcome = Literal["stop", "length", "failed", "dropped"]
SHADOW_OUTCOMES: tuple[ShadowOutcome, ...] = ("stop", "length", "failed", "dropped")


class TaskMetrics:
    """Counts what task routes decide. At most `limit` tasks, and as many of their arms, get labels of their own."""

    def __init__(self, registry: CollectorRegistry, limit: int) -> None:
        self._tasks = AdapterLabels(limit)
        self._pairs = AdapterLabels(limit)
        self._requests = Counter(
            "switchyard_task_requests",
            "Requests of a task, by the arm that was chosen and its tier (0: the preferred; none: all are missing).",
            ["task", "arm", "tier"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "switchyard_task_fallbacks",
            "Adapters of a task that were passed over for the next one, by reason (unresolved: not in the store).",
            ["task", "reason"],
            registry=registry,
        )
        self._tier_steps = Counter(
            "switchyard_task_tier_steps",
            "Times a task went to a tier further down or further up.",
            ["task", "direction"],
            registry=registry,
        )
        self._shadows = Counter(
            "switchyard_shadow_requests",
            "Copies of requests for shadows, by outcome (stop, length, failed, dropped: never run to the end).",
            ["task", "adapter", "outcome"],
            registry=registry,
        )
        self._shadow_tokens = Counter(
            "switchyard_shadow_generation_tokens",
            "Tokens that shadows generated.",
            ["task", "adapter"],
            registry=registry,
        )
        self._shadow_seconds = Histogram(
            "switchyard_shadow_seconds",
            "Seconds from the start of a shadow's copy to its last token.",
            ["task", "adapter"],
            buckets=SECONDS,
            registry=registry,
        )
        self._shadow_comparisons = Counter(
            "switchyard_shadow_comparisons",
            "Shadows whose text was that of the answer (same) or another (different), where chance played no part.",
            ["task", "adapter", "result"],
            registry=registry,
        )

    def routed(self, task: str, arm: str, tier: int | None) -> None:
        """A request of a task goes to a tier of an arm; None: the store has none of them."""
        self._requests.labels(*self._labels(task, arm), "none" if tier is None else tier).inc()

    def passed_over(self, task: str, reason: str) -> None:
        """An adapter of a task could not answer, and the next one is tried."""
        self._fallbacks.labels(self._tasks.of(task), reason).inc()

    def tier_step(self, task: str, places: int) -> None:
        """A task's arm went `places` tiers down, or up where it is negative."""
        if places:
            self._tier_steps.labels(self._tasks.of(task), "down" if places > 0 else "up").inc()

    def shadow_ended(self, task: str, adapter: str, outcome: ShadowOutcome) -> None:
        """A copy for a shadow has ended, or was dropped."""
        self._shadows.labels(*self._labels(task, adapter), outcome).inc()

    def shadow_answered(self, task: str, adapter: str, seconds: float, tokens: int, *, same: bool | None) -> None:
        """A shadow has its whole answer; `same` says whether its text is the client's, None where chance chose it."""
        labels = self._labels(task, adapter)
        self._shadow_seconds.labels(*labels).observe(seconds)
        self._shadow_tokens.labels(*labels).inc(tokens)
        if same is not None:
            self._shadow_comparisons.labels(*labels, "same" if same else "different").inc()

    def _labels(self, task: str, adapter: str) -> tuple[str, str]:
        label = self._tasks.of(task)
        is_known = label != OTHER and self._pairs.of(f"{task} {adapter}") != OTHER
        return label, adapter if is_known else OTHER
