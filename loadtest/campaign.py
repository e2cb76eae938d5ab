"""All the loads of one command, against a running server or against our own, one after another."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.progress import Progress

from loadtest.adapters import RandomAdapter, parse_ranks, random_adapters
from loadtest.commands.terminal import announcer
from loadtest.experiment import measure_point
from loadtest.measurement import http_client
from loadtest.options import LoadOptions
from loadtest.own_server import OwnServer, Target
from loadtest.plan import plan, trace_names
from loadtest.result import Point
from loadtest.served_adapters import UnsuitableServerError, all_served_adapters, first_adapters
from loadtest.variations import Variation


class _Running:
    """A server that runs already."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @contextmanager
    def __call__(self, flags: Sequence[str]) -> Iterator[Target]:
        assert not flags, "variations() refuses flags for a server that runs"
        yield self._target


class _Own:
    """A server that is started anew for every load."""

    def __init__(self, server: OwnServer) -> None:
        self._server = server

    @contextmanager
    def __call__(self, flags: Sequence[str]) -> Iterator[Target]:
        with self._server.serving(flags) as target:
            yield target


_Serving = _Running | _Own


def measure_all(
    options: LoadOptions, flags: Sequence[str], loads: Sequence[Variation], repeats: int, bars: Progress
) -> list[Point]:
    """Measure every load `repeats` times, interleaved, so that what changes with time on the machine hits all alike.

    Raises:
        SwitchyardError, UnsuitableServerError, WarmUpError, httpx.HTTPError: the server does not do what is needed.
        ValueError: an option does not fit.
    """
    names = trace_names(options)
    with _servers(options, flags, names, bars) as serving:
        points = []
        for repeat in range(repeats):
            for number, load in enumerate(loads):
                with serving(load.flags) as target:
                    asked = _asked(options, load, target, names)
                    title = " ".join([*(f"{name}={value}" for name, value in load.varied.items()), ""])
                    requests = plan(options, asked, clients=load.clients, rate=load.rate, point=number, repeat=repeat)
                    points.append(
                        asyncio.run(
                            measure_point(
                                target,
                                requests,
                                api_key=options.api_key,
                                varied=load.varied,
                                repeat=repeat,
                                announce=announcer(bars, title),
                            )
                        )
                    )
        return points


@contextmanager
def _servers(
    options: LoadOptions, flags: Sequence[str], names: Sequence[str] | None, bars: Progress
) -> Iterator[_Serving]:
    if options.url is not None:
        if flags:
            raise ValueError(f"{' '.join(flags)}: flags after -- are for a server of our own: leave --url out")
        yield _Running(Target(options.url, asyncio.run(_digests(options, names))))
        return
    with tempfile.TemporaryDirectory(prefix="switchyard-loadtest-") as scratch:
        store = options.store or Path(scratch) / "store"
        server = OwnServer(options.base, store, Path(scratch) / "server.log", flags, options.cache)
        adapters = _adapters(options, names)
        bar = bars.add_task(f"publishing to {store}" if options.store else "publishing", total=len(adapters))
        server.prepare(adapters, keep=options.store is not None, on_published=lambda: bars.advance(bar))
        yield _Own(server)


def _adapters(options: LoadOptions, names: Sequence[str] | None) -> tuple[RandomAdapter, ...]:
    ranks = parse_ranks(options.ranks)
    targets = tuple(part for part in options.target_modules.split(",") if part)
    if names is None:
        return random_adapters(options.publish, options.seed, ranks, targets)
    numbered = random_adapters(len(names), options.seed, ranks, targets)
    return tuple(RandomAdapter(name, a.rank, a.seed, a.targets) for name, a in zip(names, numbered, strict=True))


def _asked(options: LoadOptions, load: Variation, target: Target, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is not None:
        return tuple(names)
    wanted = load.adapters or options.adapters or len(target.digests)
    return tuple(first_adapters(target.digests, wanted))


async def _digests(options: LoadOptions, names: Sequence[str] | None) -> dict[str, str]:
    assert options.url is not None
    async with http_client(options.url, api_key=options.api_key) as client:
        try:
            found = await all_served_adapters(client)
        except httpx.HTTPError as error:
            raise UnsuitableServerError(f"{options.url} cannot be reached: {error}") from error
    missing = [name for name in names or () if name not in found]
    if missing:
        raise UnsuitableServerError(
            f"the trace asks for adapters that the server does not have: {', '.join(missing[:5])}"
        )
    return found
