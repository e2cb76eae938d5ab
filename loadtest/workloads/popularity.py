"""Which adapter a request asks for: fixed shares, or shares that change with the time.

Adapters are numbers from 0 here. A popularity chooses for many times at once, as arrays, so that millions of requests
take seconds.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Choices = NDArray[np.int64]


class Popularity(Protocol):
    """A way to choose adapters."""

    @property
    def adapters(self) -> int:
        """How many adapters there are."""
        ...

    def choose(self, at: Times, random: np.random.Generator) -> Choices:
        """The adapter of a request at each of these times, in seconds."""
        ...


@dataclass(frozen=True)
class Zipf:
    """The k-th most popular adapter (k from 1) is asked in proportion to `k ** -exponent`; an exponent of 0 is uniform.

    Adapters are ordered by popularity: 0 is the most popular one.
    """

    adapters: int
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.adapters < 1:
            raise ValueError("adapters: must be at least 1")
        if not 0 <= self.exponent < math.inf:
            raise ValueError("zipf: the exponent must be at least 0")

    @cached_property
    def shares(self) -> Times:
        """The share of each adapter, most popular first; they sum to 1."""
        weights = np.arange(1, self.adapters + 1, dtype=np.float64) ** -self.exponent
        return np.asarray(weights / weights.sum())

    def choose(self, at: Times, random: np.random.Generator) -> Choices:
        """The same shares at all times."""
        chosen = np.searchsorted(self._cumulative, random.random(len(at)), side="right")
        return np.minimum(chosen, self.adapters - 1).astype(np.int64)

    @cached_property
    def _cumulative(self) -> Times:
        return np.cumsum(self.shares)


@dataclass(frozen=True)
class Drifting:
    """A popularity whose order rotates once in `period` seconds.

    Every adapter climbs rank by rank to the top and then falls to the bottom: at time t, rank r belongs to adapter
    (r + steps) mod adapters, where steps is the number of `period / adapters` that have passed.
    """

    base: Zipf
    period: float

    def __post_init__(self) -> None:
        _positive("period", self.period)

    @property
    def adapters(self) -> int:
        """As many as the base has."""
        return self.base.adapters

    def choose(self, at: Times, random: np.random.Generator) -> Choices:
        """The base's ranks, rotated."""
        steps = np.floor(at * (self.adapters / self.period)).astype(np.int64)
        return np.asarray((self.base.choose(at, random) + steps) % self.adapters)


class Modulation(Protocol):
    """How much of its own share an adapter is asked for at a time."""

    def intensity(self, adapter: Choices, at: Times) -> Times:
        """Between 0 (exclusive) and 1, for each pair of an adapter and a time."""
        ...


@dataclass(frozen=True)
class Modulated:
    """A popularity whose shares a modulation scales; what one adapter loses at a time, the others get."""

    base: Zipf
    modulation: Modulation

    @property
    def adapters(self) -> int:
        """As many as the base has."""
        return self.base.adapters

    def choose(self, at: Times, random: np.random.Generator) -> Choices:
        """Draw from the base, and draw again where the modulation refuses, until every time has its adapter."""
        chosen = np.zeros(len(at), dtype=np.int64)
        open_ = np.arange(len(at))
        while len(open_):
            drawn = self.base.choose(at[open_], random)
            taken = random.random(len(open_)) < self.modulation.intensity(drawn, at[open_])
            chosen[open_[taken]] = drawn[taken]
            open_ = open_[~taken]
        return chosen


@dataclass(frozen=True)
class Diurnal:
    """Every adapter is busy for one half of a day of `period` seconds, as half a cosine, and nearly idle for the other.

    The hour of its peak (one of 24) is the adapter's own, drawn from the seed. Idle means `floor` of its share.
    """

    period: float
    seed: int = 0
    floor: float = 0.02

    def __post_init__(self) -> None:
        _positive("period", self.period)
        _share("floor", self.floor)

    def intensity(self, adapter: Choices, at: Times) -> Times:
        """1 at the peak of the adapter's day, `floor` in its night."""
        peak = np.floor(_uniform(self.seed, adapter, np.zeros_like(adapter)) * 24) / 24
        height = np.maximum(np.cos(2 * np.pi * (at / self.period - peak)), 0.0)
        return np.asarray(self.floor + (1 - self.floor) * height)


@dataclass(frozen=True)
class Bursty:
    """Every adapter is on for a share `on` of the time, in bursts of at least `burst` seconds, and nearly idle else.

    An adapter's time is cut into slots of `burst` seconds, with an offset of its own; in each it is on or off by a draw
    of its own. Off means `floor` of its share.
    """

    burst: float
    on: float = 0.1
    seed: int = 0
    floor: float = 0.02

    def __post_init__(self) -> None:
        _positive("burst", self.burst)
        _share("on", self.on)
        _share("floor", self.floor)

    def intensity(self, adapter: Choices, at: Times) -> Times:
        """1 where the adapter is on, else `floor`."""
        offset = _uniform(self.seed, adapter, np.full_like(adapter, -1))
        slot = np.floor(at / self.burst + offset).astype(np.int64)
        return np.where(_uniform(self.seed, adapter, slot) < self.on, 1.0, self.floor)


def _uniform(seed: int, first: Choices, second: Choices) -> Times:
    """A number in [0, 1) for each pair, which only the seed and the pair decide (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        mixed = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + second.astype(np.uint64)
        mixed = mixed * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: must be more than 0 seconds")


def _share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name}: must be more than 0 and at most 1")
