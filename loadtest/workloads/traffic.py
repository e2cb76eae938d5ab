"""Generated traffic: a popularity, arrival times and lengths, put together from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from loadtest.trace import Arrival
from loadtest.workloads.arrival_times import ArrivalTimes, Paced
from loadtest.workloads.lengths import Constant, Lengths
from loadtest.workloads.popularity import Popularity

_STREAMS = ("order", "times", "adapters", "prompts", "outputs", "tenants")


@dataclass(frozen=True)
class Traffic:
    """Reproducible traffic: equal values give equal arrivals, and a longer trace begins with the shorter one.

    Which adapter has which rank of the popularity follows from `seed`, not from the order of the names. Each of
    `tenants`, where there are any, is as likely.
    """

    names: tuple[str, ...]
    popularity: Popularity
    times: ArrivalTimes = field(default_factory=Paced)
    prompt_tokens: Lengths = field(default_factory=lambda: Constant(64))
    output_tokens: Lengths = field(default_factory=lambda: Constant(48))
    tenants: tuple[str, ...] = ("",)
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.names) != self.popularity.adapters:
            raise ValueError(f"names: {len(self.names)} were given for {self.popularity.adapters} adapters")
        if not self.tenants:
            raise ValueError("tenants: name at least one")

    def by_rank(self) -> tuple[str, ...]:
        """The names in the order of the popularity's numbers; number 0 is first."""
        return tuple(self.names[index] for index in self._random("order").permutation(len(self.names)))

    def arrivals(self, *, requests: int | None = None, seconds: float | None = None) -> Iterator[Arrival]:
        """The arrivals in order: the first `requests`, or those before `seconds`, or without end.

        Where both are given, the first to be reached ends them.
        """
        left = requests
        names = self.by_rank()
        adapters, prompts, outputs, tenants = (
            self._random(stream) for stream in ("adapters", "prompts", "outputs", "tenants")
        )
        for times in self.times.chunks(self._random("times")):
            count = len(times)
            chunk = zip(
                times.tolist(),
                self.popularity.choose(times, adapters).tolist(),
                self.prompt_tokens.draw(count, prompts).tolist(),
                self.output_tokens.draw(count, outputs).tolist(),
                tenants.integers(0, len(self.tenants), count).tolist(),
                strict=True,
            )
            for at, adapter, prompt_tokens, output_tokens, tenant in chunk:
                if (left is not None and left <= 0) or (seconds is not None and at >= seconds):
                    return
                yield Arrival(at, names[adapter], prompt_tokens, output_tokens, self.tenants[tenant])
                if left is not None:
                    left -= 1

    def _random(self, stream: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, _STREAMS.index(stream)])
