"""Metrics of the engine, from its reports."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.api.metrics.residency_metrics import ResidencyMetrics
from server.api.metrics.sizing_metrics import SizingMetrics
from server.api.metrics.state_metrics import StateCollector
from server.engine.interface import Engine
from server.engine.messages import (
    EngineState,
    EvictionReport,
    GroupReport,
    LoadReport,
    LookupReport,
    PreloadReport,
    Report,
    StepReport,
)

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
_HELD_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WINDOW_SECONDS = (0.0, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05)
_ROWS = (0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256)
_TOKENS = (0, 1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class _RunningTotal:
    """Adds up a total that begins again from zero with every engine process."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last = 0

    def begin_again(self) -> None:
        """There is a new engine."""
        self._last = 0

    def now(self, total: int) -> None:
        """The engine's own total has become `total`; less than before means a new engine, too."""
        self._counter.inc(total - self._last if total >= self._last else total)
        self._last = total


class EngineMetrics:
    """What the engine does, step by step, and what it holds."""

    def __init__(self, registry: CollectorRegistry, engine: Engine) -> None:
        self._engine = engine
        self._last_state: EngineState | None = None
        self._restarts_at_state = 0
        self._steps(registry)
        self._residency = ResidencyMetrics(registry)
        self._totals(registry)
        registry.register(StateCollector(lambda: self.state))
        self.sizing = SizingMetrics(registry, lambda: self.state)

    @property
    def state(self) -> EngineState | None:
        """The last snapshot of the engine that is ready now; None where none is, or it has sent none."""
        is_its_own = self._engine.restarts == self._restarts_at_state
        return self._last_state if is_its_own and self._engine.status == "ready" else None

    def observe(self, report: Report) -> None:
        """Take one report of the engine."""
        match report:
            case StepReport():
                self._on_step(report)
            case GroupReport():
                self._group_size.observe(report.size)
                self._window_held.observe(report.held_seconds)
                self._window_open.observe(report.window_seconds)
                self._group_waited.observe(report.waited_seconds)
            case LookupReport():
                self._residency.looked_up(report)
                self.sizing.looked_up(report)
            case LoadReport():
                self._residency.loaded(report)
                self.sizing.loaded(report)
            case EvictionReport():
                self._residency.evicted(report)
            case PreloadReport():
                self._residency.preloaded(report)
            case EngineState():
                self._on_state(report)

    def _steps(self, registry: CollectorRegistry) -> None:
        self._step_seconds = Histogram(
            "switchyard_step_seconds", "Seconds of one engine step.", buckets=_STEP_SECONDS, registry=registry
        )
        self._batch_rows = Histogram(
            "switchyard_batch_rows", "Sequences in one step.", buckets=_ROWS, registry=registry
        )
        self._decode_rows = Histogram(
            "switchyard_batch_decode_rows",
            "Sequences in one step that decode, one token each.",
            buckets=_ROWS,
            registry=registry,
        )
        self._batch_adapters = Histogram(
            "switchyard_batch_adapters", "Different adapters in one step.", buckets=_ROWS, registry=registry
        )
        self._prefill_tokens = Histogram(
            "switchyard_step_prefill_tokens", "Prompt tokens computed in one step.", buckets=_TOKENS, registry=registry
        )
        self._group_size = Histogram(
            "switchyard_group_size", "Requests of one adapter admitted together.", buckets=_ROWS, registry=registry
        )
        self._window_held = Histogram(
            "switchyard_window_held_seconds",
            "Seconds the window held a group although a row and its adapter were free.",
            buckets=_HELD_SECONDS,
            registry=registry,
        )
        self._window_open = Histogram(
            "switchyard_window_open_seconds",
            "Length of the same-adapter window of an admitted group, in seconds: 0 where nobody was expected to join.",
            buckets=_WINDOW_SECONDS,
            registry=registry,
        )
        self._group_waited = Histogram(
            "switchyard_group_waited_seconds",
            "Seconds from the arrival of a group's first request to its admission.",
            buckets=_HELD_SECONDS,
            registry=registry,
        )

    def _totals(self, registry: CollectorRegistry) -> None:
        self._prefix_hits = _RunningTotal(
            Counter("switchyard_prefix_hit_tokens", "Prompt tokens taken from the prefix cache.", registry=registry)
        )
        self._prefix_lookups = _RunningTotal(
            Counter(
                "switchyard_prefix_lookup_tokens", "Prompt tokens looked up in the prefix cache.", registry=registry
            )
        )
        self._preemptions = _RunningTotal(
            Counter("switchyard_preemptions", "Sequences put back because KV blocks ran out.", registry=registry)
        )
        self._rows_taken_back = _RunningTotal(
            Counter(
                "switchyard_rows_taken_back", "Sequences put back because others had fewer rows.", registry=registry
            )
        )

    def _on_step(self, report: StepReport) -> None:
        self._step_seconds.observe(report.seconds)
        self._batch_rows.observe(report.rows)
        self._decode_rows.observe(report.decode_rows)
        self._batch_adapters.observe(report.adapters)
        self._prefill_tokens.observe(report.prefill_tokens)

    def _on_state(self, state: EngineState) -> None:
        if self._engine.restarts != self._restarts_at_state:
            for total in (self._prefix_hits, self._prefix_lookups, self._preemptions, self._rows_taken_back):
                total.begin_again()
        self._last_state, self._restarts_at_state = state, self._engine.restarts
        self._prefix_hits.now(state.prefix_hit_tokens)
        self._prefix_lookups.now(state.prefix_lookup_tokens)
        self._preemptions.now(state.preemptions)
        self._rows_taken_back.now(state.rows_taken_back)
