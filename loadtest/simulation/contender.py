"""The policies that a simulation compares: the engine's own, with what each hears of traffic, and the optimum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Literal, cast, get_args

from loadtest.simulation.belady import Belady, first_asks, next_asks
from loadtest.simulation.demand import Demand
from loadtest.simulation.outcome import Outcome
from loadtest.simulation.simulated_server import SimulatedServer
from loadtest.simulation.simulator import Simulation
from server.adapters.eviction.choice import PolicyName, eviction_policy
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.traffic.traffic_model import TrafficModel

ContenderName = Literal["lru", "lfu", "cost", "predicted", "predicted-evicting", "belady"]
NAMES: tuple[ContenderName, ...] = get_args(ContenderName)
"""`predicted-evicting` hears forecasts as `predicted` does, but nothing is preloaded by them."""

BASELINE: ContenderName = "lru"
OPTIMUM: ContenderName = "belady"


class TrafficForecaster:
    """The server's traffic model, as a simulation asks it; hours and weekdays are those of UTC."""

    def __init__(self) -> None:
        self._model = TrafficModel(zone=UTC)

    def observe(self, key: str, now: float) -> None:
        """See `Forecaster`."""
        self._model.observe(key, now)

    def hottest(self, count: int, at: float) -> Mapping[str, float]:
        """See `Forecaster`."""
        return dict(self._model.hottest(count, at))


@dataclass(frozen=True)
class Trial:
    """One trace against servers that differ in policy and budget.

    Args:
        sizes: bytes of each adapter.
        started_at: Unix time of the trace's start.
        measured_from: seconds of the trace that only warm up.
    """

    demand: Demand
    sizes: Mapping[str, int]
    started_at: float = 0.0
    measured_from: float = 0.0

    def simulate(
        self, name: ContenderName, server: SimulatedServer, progress: Callable[[int], None] = lambda _: None
    ) -> Outcome:
        """Play the trace under one policy on both tiers.

        Raises:
            TooLargeError: an adapter does not fit on the device at all.
        """
        new_policy = self._policies(name)
        forecasts = name in ("predicted", "predicted-evicting")
        simulation = Simulation(
            server,
            self.sizes,
            device_policy=new_policy(),
            host_policy=new_policy(),
            forecaster=TrafficForecaster() if forecasts else None,
            preloading=name == "predicted",
            started_at=self.started_at,
            measured_from=self.measured_from,
        )
        return simulation.run(self.demand, name, progress)

    def _policies(self, name: ContenderName) -> Callable[[], EvictionPolicy]:
        if name == OPTIMUM:
            keys = self.demand.keys()
            following, first = next_asks(keys), first_asks(keys)
            return lambda: Belady(following, first)
        known = cast(PolicyName, name.partition("-")[0])
        return lambda: eviction_policy(known)
