"""What a simulation found."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Outcome:
    """One policy at one device budget; counts are of the requests that were measured.

    A lookup is made when a request arrives: it hits the device, or else is looked up in host memory. A cold start is a
    request that waited for a load (its own, or one that was under way). Waits are from arrival until the adapter is
    resident, in seconds: over all requests for adapters, those that hit included, and over the cold ones alone.
    """

    policy: str
    preloading: bool
    device_budget_bytes: int
    host_budget_bytes: int
    requests: int
    """Requests that ended, those for the bare base included."""
    lookups: int
    device_hits: int
    host_hits: int
    cold_starts: int
    wait_mean: float
    wait_p50: float
    wait_p99: float
    cold_wait_p50: float
    cold_wait_p99: float
    loads_from_store: int
    loads_from_host: int
    store_bytes: int
    device_bytes: int
    evictions: int
    preloads: int
    preloads_useful: int
    preloads_wasted: int
    preload_bytes: int
    peak_device_bytes: int
    peak_host_bytes: int

    @property
    def device_hit_rate(self) -> float:
        """Share of lookups that found the adapter on the device; 0 of none."""
        return self.device_hits / self.lookups if self.lookups else 0.0

    @property
    def host_hit_rate(self) -> float:
        """Share of the device's misses that found the adapter in host memory; 0 of none."""
        misses = self.lookups - self.device_hits
        return self.host_hits / misses if misses else 0.0


def gap_closed(outcome: Outcome, baseline: Outcome, optimum: Outcome) -> float | None:
    """How far a policy's device hit rate is from the baseline's (0) to the optimum's (1).

    Above 1 where preloading beats an optimum that loads on demand; None where there is no gap.
    """
    gap = optimum.device_hit_rate - baseline.device_hit_rate
    return (outcome.device_hit_rate - baseline.device_hit_rate) / gap if gap > 0 else None


def percentile(ascending: Sequence[float], share: float, *, zeros: int = 0) -> float:
    """The nearest-rank percentile of some values, before which so many zeros stand; 0 of nothing."""
    position = ceil(share * (zeros + len(ascending))) - 1 - zeros
    return ascending[position] if 0 <= position < len(ascending) else 0.0
