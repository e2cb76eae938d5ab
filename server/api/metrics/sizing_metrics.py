"""How much device memory the traffic wants: its working set, and the hit ratios that other budgets would have had."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.adapters.traffic.ghost_cache import GhostCache
from server.adapters.traffic.working_set import WorkingSet
from server.engine.messages import EngineState, LoadReport, LookupReport

MULTIPLES = (0.5, 1, 2, 4, 8, 16)
"""Of the present budget: the budgets that are told of."""


@dataclass(frozen=True)
class Sizing:
    """`hit_ratios` by multiple of `budget_bytes`, of about `requests` lookups of late; sizes in bytes."""

    budget_bytes: int
    requests: float
    hit_ratios: dict[float, float]
    working_set: int
    working_set_bytes: int


class SizingMetrics(Collector):
    """Fed with the engine's reports of lookups and loads; draws its gauges when they are read.

    `state` gives the engine's last snapshot, None where there is none.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        state: Callable[[], EngineState | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._clock = clock
        self._ghost = GhostCache()
        self._working = WorkingSet()
        self._sized_bytes = 0
        self._sized = 0
        registry.register(self)

    def looked_up(self, report: LookupReport) -> None:
        """A request asked for a version."""
        now = self._clock()
        self._working.asked(report.digest, now)
        size = self._working.size_of(report.digest)
        if size is None:
            # A version's size is known from its first load on; until then it is taken for an ordinary one.
            size = self._sized_bytes // self._sized if self._sized else 1
        self._ghost.asked(report.digest, size, now)

    def loaded(self, report: LoadReport) -> None:
        """A load ended: the version's size is known now."""
        if report.failure is None:
            if self._working.size_of(report.digest) is None:
                self._sized_bytes, self._sized = self._sized_bytes + report.size_bytes, self._sized + 1
            self._working.sized(report.digest, report.size_bytes)

    def size_of(self, digest: str) -> int | None:
        """Bytes that a version takes on the device, None where they are not known."""
        return self._working.size_of(digest)

    def now(self) -> Sizing | None:
        """How much memory the traffic wants; None while there is no engine to speak of."""
        state = self._state()
        if state is None:
            return None
        budget = state.adapter_budget_bytes
        ratios = self._ghost.hit_ratios([int(multiple * budget) for multiple in MULTIPLES])
        adapters, total = self._working.now(self._clock())
        return Sizing(budget, self._ghost.requests, dict(zip(MULTIPLES, ratios, strict=True)), adapters, total)

    def collect(self) -> Iterable[Metric]:
        """All families; without samples where there is no state."""
        sizing = self.now()
        yield GaugeMetricFamily(
            "switchyard_adapter_working_set_bytes",
            "Bytes of the adapter versions that were asked for in the last ten minutes.",
            value=None if sizing is None else sizing.working_set_bytes,
        )
        yield GaugeMetricFamily(
            "switchyard_adapter_working_set_adapters",
            "Adapter versions that were asked for in the last ten minutes.",
            value=None if sizing is None else sizing.working_set,
        )
        ghost = GaugeMetricFamily(
            "switchyard_adapter_ghost_hit_ratio",
            "Hit ratio that an LRU cache of this multiple of the device budget would have had, over about an hour.",
            labels=["budget"],
        )
        for multiple, ratio in (sizing.hit_ratios if sizing is not None else {}).items():
            ghost.add_metric([f"{multiple:g}x"], ratio)
        yield ghost
