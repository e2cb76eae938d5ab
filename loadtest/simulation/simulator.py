"""A server on a virtual clock: requests ask for adapters, wait for loads, hold rows and end."""

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Protocol

from loadtest.simulation.demand import BASE, Demand
from loadtest.simulation.loads import LoadCounts, Loads
from loadtest.simulation.outcome import Outcome, percentile
from loadtest.simulation.simulated_server import SimulatedServer
from loadtest.simulation.tier import Tier
from loadtest.simulation.virtual_clock import VirtualClock
from server.adapters.eviction.policy import EvictionPolicy

PROGRESS_EVERY = 10_000


class Forecaster(Protocol):
    """What the simulation asks of a traffic model. Times are Unix seconds, rates requests a second."""

    def observe(self, key: str, now: float) -> None:
        """A request asked for a key."""

    def hottest(self, count: int, at: float) -> Mapping[str, float]:
        """The keys with the highest predicted rates, highest first."""


class TooLargeError(ValueError):
    """An adapter of the trace is larger than the device budget."""


class Simulation:
    """One run of one trace under one policy for each tier.

    Args:
        server: the settings that are simulated.
        sizes: bytes of every adapter that the trace names.
        forecaster: predicts from the requests as they arrive; None foretells and preloads nothing.
        preloading: preload by the forecasts; without it they only tell the policies.
        started_at: Unix time of the trace's start, for hours and days of the week.
        measured_from: seconds of the trace after which requests and loads count; those before only warm up.
    """

    def __init__(
        self,
        server: SimulatedServer,
        sizes: Mapping[str, int],
        *,
        device_policy: EvictionPolicy,
        host_policy: EvictionPolicy,
        forecaster: Forecaster | None = None,
        preloading: bool = True,
        started_at: float = 0.0,
        measured_from: float = 0.0,
    ) -> None:
        self._server = server
        self._sizes = sizes
        self._forecaster = forecaster
        self._preloading = preloading and forecaster is not None
        self._started_at = started_at
        self._measured_from = measured_from
        self._clock = VirtualClock()
        self._device = Tier(server.device_bytes, device_policy)
        self._host = Tier(server.host_bytes, host_policy)
        self._loads = Loads(
            server.loads, sizes, device=self._device, host=self._host, clock=self._clock, resident=self._resident
        )
        self._waiting: defaultdict[str, list[int]] = defaultdict(list)
        self._ready: deque[int] = deque()
        self._running = 0
        self._waits = array("d")
        self._lookups = self._device_hits = self._host_hits = self._ended = self._useful = 0
        self._demand = Demand()

    def run(self, demand: Demand, policy_name: str, progress: Callable[[int], None] = lambda _: None) -> Outcome:
        """Play the whole trace; `progress` hears of every so many requests.

        Raises:
            TooLargeError: an adapter does not fit on the device at all.
            KeyError: `sizes` lacks an adapter.
        """
        largest = max(set(demand.keys()), key=self._sizes.__getitem__, default=None)
        if largest is not None and self._sizes[largest] > self._server.device_bytes:
            raise TooLargeError(f"adapter {largest!r} has {self._sizes[largest]} bytes: raise the device budget")
        self._demand = demand
        next_forecast = 0.0
        measuring = self._measured_from <= 0
        clock, arrive, interval = self._clock, self._arrive, self._server.foretelling.interval_seconds
        for index, at in enumerate(demand.at):
            while self._forecaster is not None and next_forecast <= at:
                clock.advance(next_forecast)
                self._foretell(self._forecaster)
                next_forecast += interval
            clock.advance(at)
            if not measuring and at >= self._measured_from:
                measuring = True
                self._begin_to_measure()
            arrive(index)
            if index % PROGRESS_EVERY == 0:
                progress(index)
        clock.drain()
        progress(len(demand))
        return self._outcome(policy_name)

    def _arrive(self, index: int) -> None:
        adapter, now = self._demand.adapters[index], self._clock.now
        if adapter == BASE:
            self._ready.append(index)
            self._fill_rows()
            return
        if self._forecaster is not None:
            self._forecaster.observe(adapter, self._started_at + now)
        device, host = self._device, self._host
        device.policy.asked(adapter, now)
        host.policy.asked(adapter, now)
        device.hold(adapter)
        self._lookups += 1
        if adapter in device.unused_preloads:
            device.unused_preloads.remove(adapter)
            self._useful += 1
            device.confidence.ended(useful=True)
        if adapter in device:
            self._device_hits += 1
            self._ready.append(index)
            self._fill_rows()
            return
        if adapter in host:
            self._host_hits += 1
        self._waiting[adapter].append(index)
        self._loads.want(adapter)

    def _resident(self, adapter: str) -> None:
        for index in self._waiting.pop(adapter, ()):
            arrived = self._demand.at[index]
            if arrived >= self._measured_from:
                self._waits.append(self._clock.now - arrived)
            self._ready.append(index)
        self._fill_rows()

    def _fill_rows(self) -> None:
        demand, rows = self._demand, self._server.rows
        while self._ready and self._running < rows.rows:
            index = self._ready.popleft()
            self._running += 1
            seconds = rows.service_seconds(demand.prompt_tokens[index], demand.output_tokens[index], self._running)
            self._clock.after(seconds, self._end, index)

    def _end(self, index: int) -> None:
        self._running -= 1
        self._ended += 1
        if self._demand.adapters[index] != BASE:
            self._device.release(self._demand.adapters[index])
            self._loads.proceed()
        self._fill_rows()

    def _foretell(self, forecaster: Forecaster) -> None:
        foretelling = self._server.foretelling
        at = self._started_at + self._clock.now + foretelling.horizon_seconds
        self._loads.foretell(forecaster.hottest(foretelling.count, at), preload=self._preloading)

    def _begin_to_measure(self) -> None:
        self._lookups = self._device_hits = self._host_hits = self._ended = self._useful = 0
        self._loads.counts = LoadCounts()
        self._device.evictions = self._device.wasted_preloads = 0

    def _outcome(self, policy_name: str) -> Outcome:
        cold, loads = sorted(self._waits), self._loads.counts
        hits = self._lookups - len(cold)
        return Outcome(
            policy=policy_name,
            preloading=self._preloading,
            device_budget_bytes=self._device.budget_bytes,
            host_budget_bytes=self._host.budget_bytes,
            requests=self._ended,
            lookups=self._lookups,
            device_hits=self._device_hits,
            host_hits=self._host_hits,
            cold_starts=len(cold),
            wait_mean=sum(cold) / self._lookups if self._lookups else 0.0,
            wait_p50=percentile(cold, 0.5, zeros=hits),
            wait_p99=percentile(cold, 0.99, zeros=hits),
            cold_wait_p50=percentile(cold, 0.5),
            cold_wait_p99=percentile(cold, 0.99),
            loads_from_store=loads.from_store,
            loads_from_host=loads.from_host,
            store_bytes=loads.store_bytes,
            device_bytes=loads.device_bytes,
            evictions=self._device.evictions,
            preloads=loads.preloads,
            preloads_useful=self._useful,
            preloads_wasted=self._device.wasted_preloads,
            preload_bytes=loads.preload_bytes,
            peak_device_bytes=self._device.peak_bytes,
            peak_host_bytes=self._host.peak_bytes,
        )
