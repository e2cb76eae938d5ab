"""A server's `/metrics`, read back: totals, histograms, and what was added between two readings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Exposition", "Histogram"]


@dataclass(frozen=True)
class Histogram:
    """`buckets` are (upper bound, observations up to it), in order, the last bound infinite."""

    buckets: tuple[tuple[float, float], ...]
    sum: float

    @property
    def count(self) -> float:
        """Observations in all."""
        return self.buckets[-1][1] if self.buckets else 0.0

    @property
    def mean(self) -> float:
        """The mean observation; 0 where there is none."""
        return self.sum / self.count if self.count else 0.0

    @property
    def upper_bound(self) -> float:
        """The bound of the last bucket that holds an observation: no observation was larger."""
        return next((bound for bound, below in self.buckets if below >= self.count), 0.0) if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The value below which `share` of the observations lie, linear inside a bucket as Prometheus has it."""
        rank = share * self.count
        lower_bound = lower_count = 0.0
        for bound, below in self.buckets:
            if below >= rank and below > lower_count:
                if math.isinf(bound):
                    return lower_bound
                return lower_bound + (bound - lower_bound) * (rank - lower_count) / (below - lower_count)
            lower_bound, lower_count = bound, below
        return 0.0


class Exposition:
    """Samples in the Prometheus text format, summed over labels where a name is asked for."""

    def __init__(self, samples: Mapping[str, float], buckets: Mapping[str, Mapping[float, float]]) -> None:
        self._samples = samples
        self._buckets = buckets

    @classmethod
    def parse(cls, text: str) -> "Exposition":
        """Read the text of `/metrics`."""
        samples: dict[str, float] = {}
        buckets: dict[str, dict[float, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if "le" in sample.labels:
                    bounds = buckets.setdefault(family.name, {})
                    bound = float(sample.labels["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + sample.value
                else:
                    samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
        return cls(samples, buckets)

    def total(self, name: str) -> float:
        """The sum over all labels of a sample such as `switchyard_adapter_loads_total`; 0 where there is none."""
        return self._samples.get(name, 0.0)

    def histogram(self, name: str) -> Histogram:
        """The histogram `name`, summed over its labels; empty where there is none."""
        bounds = self._buckets.get(name, {})
        return Histogram(tuple(sorted(bounds.items())), self._samples.get(f"{name}_sum", 0.0))

    def since(self, earlier: "Exposition") -> "Exposition":
        """What was added to counters and histograms after `earlier`."""
        samples = {name: value - earlier.total(name) for name, value in self._samples.items()}
        buckets = {
            name: {bound: below - earlier._buckets.get(name, {}).get(bound, 0.0) for bound, below in bounds.items()}
            for name, bounds in self._buckets.items()
        }
        return Exposition(samples, buckets)
