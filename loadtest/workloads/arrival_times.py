"""When requests arrive."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loadtest.workloads.popularity import Times

CHUNK = 4096


class ArrivalTimes(Protocol):
    """An endless, rising series of times in seconds."""

    def chunks(self, random: np.random.Generator) -> Iterator[Times]:
        """The times, many at once."""
        ...


@dataclass(frozen=True)
class Poisson:
    """Independent arrivals, `rate` a second on average."""

    rate: float

    def __post_init__(self) -> None:
        _positive_rate(self.rate)

    def chunks(self, random: np.random.Generator) -> Iterator[Times]:
        """Exponential gaps, summed."""
        now = 0.0
        while True:
            times = now + np.cumsum(random.exponential(1 / self.rate, CHUNK))
            now = float(times[-1])
            yield times


@dataclass(frozen=True)
class DiurnalPoisson:
    """Independent arrivals, `rate` a second at the peak of a day of `period` seconds and `trough` of that at its low.

    The day begins at its low.
    """

    rate: float
    period: float
    trough: float = 0.1

    def __post_init__(self) -> None:
        _positive_rate(self.rate)
        if not 0 < self.period < math.inf:
            raise ValueError("period: must be more than 0 seconds")
        if not 0 <= self.trough <= 1:
            raise ValueError("trough: must be between 0 and 1")

    def chunks(self, random: np.random.Generator) -> Iterator[Times]:
        """Arrivals at the peak's rate, thinned."""
        for times in Poisson(self.rate).chunks(random):
            height = (1 - np.cos(2 * np.pi * times / self.period)) / 2
            yield times[random.random(len(times)) < self.trough + (1 - self.trough) * height]


@dataclass(frozen=True)
class Paced:
    """One arrival every `1 / rate` seconds: the clock of a closed loop, whose clients send when their answer has come.

    A closed loop does not wait for these times; they say only how fast a popularity changes from request to request.
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        _positive_rate(self.rate)

    def chunks(self, random: np.random.Generator) -> Iterator[Times]:  # noqa: ARG002
        """Evenly spaced times."""
        first = 0
        while True:
            yield np.arange(first, first + CHUNK, dtype=np.float64) / self.rate
            first += CHUNK


def _positive_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError("rate: must be more than 0 requests a second")
