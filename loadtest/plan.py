"""From options to the requests of one load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

from loadtest.options import LoadOptions, PopularityName
from loadtest.prompts import prompt_of
from loadtest.public_traces import Assignment, is_public_trace, read_public_trace
from loadtest.trace import Arrival, TraceError, faster, read_trace
from loadtest.workload import WorkItem
from loadtest.workloads.arrival_times import Paced, Poisson
from loadtest.workloads.lengths import parse_lengths
from loadtest.workloads.popularity import Bursty, Diurnal, Drifting, Modulated, Popularity, Zipf
from loadtest.workloads.traffic import Traffic

SEEDS_APART = 1000
"""From the seed of one repeat to that of the next."""


@dataclass(frozen=True)
class Load:
    """The requests of one load, the first `warm_up` of which are not measured.

    With `clients` it is a closed loop, else an open one. The texts of the prompts follow from `prompts`: loads of one
    server need different ones, or its prefix cache answers for what an earlier load asked.
    """

    arrivals: tuple[Arrival, ...]
    warm_up: int
    clients: int | None
    prompts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.arrivals) <= self.warm_up:
            raise ValueError(f"warm-up: {self.warm_up} of {len(self.arrivals)} requests leave none to measure")

    def items(self, *, overhead: int = 0) -> tuple[tuple[WorkItem, ...], tuple[WorkItem, ...]]:
        """The requests of the warm-up and those that are measured, whose times begin at 0 each.

        `overhead` is the number of tokens that the server's chat template adds to a prompt.
        """
        random = Random(f"prompts/{'/'.join(map(str, self.prompts))}")
        start = self.arrivals[self.warm_up].at
        items = [
            WorkItem(
                index,
                arrival.adapter,
                prompt_of(arrival.prompt_tokens, random, overhead=overhead),
                arrival.output_tokens,
                arrival.at - (start if index >= self.warm_up else self.arrivals[0].at),
                arrival.tenant,
            )
            for index, arrival in enumerate(self.arrivals)
        ]
        measured = (replace(item, index=item.index - self.warm_up) for item in items[self.warm_up :])
        return tuple(items[: self.warm_up]), tuple(measured)


def plan(
    options: LoadOptions,
    names: Sequence[str],
    *,
    clients: int | None,
    rate: float | None,
    point: int = 0,
    repeat: int = 0,
) -> Load:
    """The load over these adapters. `clients` makes a closed loop; else an open one at `rate`, or at a trace's times.

    The points of one repeat ask the same adapters at the same times, so that they can be compared; another repeat draws
    anew. No two of all these loads share a prompt.

    Raises:
        ValueError: an option does not fit; the message names it.
        TraceError: the trace cannot be read.
    """
    prompts = (options.seed, point, repeat)
    options = replace(options, seed=options.seed + SEEDS_APART * repeat)
    arrivals = _replayed(options, names) if options.trace else _generated(options, names, rate).arrivals()
    return Load(tuple(islice(arrivals, _wanted(options))), options.warm_up_requests, clients, prompts)


def popularity_of(options: LoadOptions, adapters: int) -> Popularity:
    """The popularity that the options ask for."""
    base = Zipf(adapters, options.zipf)
    match options.popularity:
        case PopularityName.UNIFORM:
            return Zipf(adapters, 0.0)
        case PopularityName.ZIPF:
            return base
        case PopularityName.DRIFTING:
            return Drifting(base, options.period)
        case PopularityName.DIURNAL:
            return Modulated(base, Diurnal(options.period, options.seed))
        case PopularityName.BURSTY:
            return Modulated(base, Bursty(options.burst, seed=options.seed))


def trace_names(options: LoadOptions) -> tuple[str, ...] | None:
    """The adapters that a recorded trace asks within the measured part, or None where it does not say."""
    if options.trace is None or is_public_trace(options.trace):
        return None
    asked = (arrival.adapter for arrival in islice(read_trace(options.trace), _wanted(options)))
    return tuple(name for name in dict.fromkeys(asked) if name != "base")


def _wanted(options: LoadOptions) -> int | None:
    """How many requests are sent in all; None for all of a trace."""
    measured = options.measured_requests
    return None if measured is None else options.warm_up_requests + measured


def _generated(options: LoadOptions, names: Sequence[str], rate: float | None) -> Traffic:
    return Traffic(
        names=tuple(names),
        popularity=popularity_of(options, len(names)),
        times=Paced(options.pace) if rate is None else Poisson(rate),
        prompt_tokens=parse_lengths(options.prompt_tokens),
        output_tokens=parse_lengths(options.output_tokens),
        seed=options.seed,
    )


def _replayed(options: LoadOptions, names: Sequence[str]) -> Iterator[Arrival]:
    assert options.trace is not None
    if is_public_trace(options.trace):
        column = options.adapter_column
        popularity = popularity_of(options, len(names)) if column is None else None
        arrivals = read_public_trace(options.trace, Assignment(tuple(names), popularity, column, options.seed))
    else:
        arrivals = _known(read_trace(options.trace), {*names, "base"})
    for arrival in faster(arrivals, options.speed_up):
        yield replace(
            arrival,
            prompt_tokens=min(arrival.prompt_tokens, options.longest_prompt or arrival.prompt_tokens),
            output_tokens=min(arrival.output_tokens, options.longest_output or arrival.output_tokens),
        )


def _known(arrivals: Iterator[Arrival], names: set[str]) -> Iterator[Arrival]:
    for arrival in arrivals:
        if arrival.adapter not in names:
            raise TraceError(f"adapter: the trace asks for {arrival.adapter}, which the server does not have")
        yield arrival
