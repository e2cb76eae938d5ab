"""A trace in columns: what a simulation asks, held small enough for millions of requests."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtest.trace import Arrival

BASE = "base"


@dataclass(frozen=True)
class Demand:
    """Requests in the order of their times: seconds from the start, the adapter's name, tokens of prompt and answer."""

    at: "array[float]" = field(default_factory=lambda: array("d"))
    adapters: list[str] = field(default_factory=list)
    prompt_tokens: "array[int]" = field(default_factory=lambda: array("l"))
    output_tokens: "array[int]" = field(default_factory=lambda: array("l"))

    def __len__(self) -> int:
        return len(self.at)

    @property
    def seconds(self) -> float:
        """From the start to the last request."""
        return self.at[-1] if self.at else 0.0

    def keys(self) -> list[str]:
        """The adapters asked for, in order, without those requests that ask the bare base."""
        return [adapter for adapter in self.adapters if adapter != BASE]


def demand_of(arrivals: Iterable[Arrival]) -> Demand:
    """The columns of a trace.

    Raises:
        ValueError: an arrival is earlier than the one before it.
    """
    demand = Demand()
    names: dict[str, str] = {}
    latest = 0.0
    for index, arrival in enumerate(arrivals):
        if arrival.at < latest:
            raise ValueError(f"arrival {index} is at {arrival.at} s, after one at {latest} s: sort the trace by `at`")
        latest = arrival.at
        demand.at.append(arrival.at)
        demand.adapters.append(names.setdefault(arrival.adapter, arrival.adapter))
        demand.prompt_tokens.append(arrival.prompt_tokens)
        demand.output_tokens.append(arrival.output_tokens)
    return demand
