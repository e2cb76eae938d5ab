"""How many tokens prompts and answers have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


class Lengths(Protocol):
    """A distribution of lengths, in tokens."""

    def draw(self, count: int, random: np.random.Generator) -> Tokens:
        """So many lengths, each at least 1."""
        ...


@dataclass(frozen=True)
class Constant:
    """Always the same length."""

    tokens: int

    def __post_init__(self) -> None:
        _at_least_one(self.tokens)

    def draw(self, count: int, random: np.random.Generator) -> Tokens:  # noqa: ARG002
        """So many times the length."""
        return np.full(count, self.tokens, dtype=np.int64)


@dataclass(frozen=True)
class Uniform:
    """Every length from `low` to `high`, both included, is as likely."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _at_least_one(self.low)
        if self.high < self.low:
            raise ValueError("the highest length is less than the lowest")

    def draw(self, count: int, random: np.random.Generator) -> Tokens:
        """So many lengths."""
        return random.integers(self.low, self.high, size=count, endpoint=True, dtype=np.int64)


@dataclass(frozen=True)
class Lognormal:
    """Half of the lengths are below `median`; `sigma` is the deviation of their logarithm. Cut at `most`."""

    median: float
    sigma: float
    most: int = 4096

    def __post_init__(self) -> None:
        _at_least_one(self.median)
        _at_least_one(self.most)
        if not 0 <= self.sigma < math.inf:
            raise ValueError("sigma must be at least 0")

    def draw(self, count: int, random: np.random.Generator) -> Tokens:
        """So many lengths."""
        drawn = random.lognormal(math.log(self.median), self.sigma, count)
        return np.clip(np.rint(drawn), 1, self.most).astype(np.int64)


@dataclass(frozen=True)
class Empirical:
    """The lengths that were seen elsewhere, each as likely as the others."""

    seen: Sequence[int]

    def __post_init__(self) -> None:
        if not self.seen:
            raise ValueError("no lengths were given")
        _at_least_one(min(self.seen))

    def draw(self, count: int, random: np.random.Generator) -> Tokens:
        """So many lengths."""
        return random.choice(np.asarray(self.seen, dtype=np.int64), size=count)


def parse_lengths(text: str) -> Lengths:
    """Parse `48`, `uniform:16,64`, `lognormal:200,0.6` (median, sigma, and perhaps the most), or `seen:10,20,400`.

    Raises:
        ValueError: the text is none of these.
    """
    kind, _, rest = text.partition(":")
    try:
        if not rest:
            return Constant(int(kind))
        numbers = [float(part) for part in rest.split(",")]
        match kind, numbers:
            case "uniform", [low, high]:
                return Uniform(int(low), int(high))
            case "lognormal", [median, sigma]:
                return Lognormal(median, sigma)
            case "lognormal", [median, sigma, most]:
                return Lognormal(median, sigma, int(most))
            case "seen", [_, *_]:
                return Empirical([int(number) for number in numbers])
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no distribution of lengths: {error}") from error
    raise ValueError(f"{text!r} is no distribution of lengths: write 48, uniform:16,64, lognormal:200,0.6 or seen:9,30")


def _at_least_one(tokens: float) -> None:
    if not 1 <= tokens < math.inf:
        raise ValueError("lengths must be at least 1 token")
