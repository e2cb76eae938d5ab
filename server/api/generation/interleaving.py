"""Several asynchronous streams read as one, each item as it comes."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """A stream has ended, by itself or with an error."""

    error: Exception | None = None


def interleaved(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """The items of all streams in the order of their arrival; each stream's own order is kept.

    The first error of any stream is raised, and the others are given up. So are all when the result is closed.
    """
    return streams[0] if len(streams) == 1 else _merged(streams)


async def _merged(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    # Bounded: a client that does not read must not let pieces pile up here.
    arrived: asyncio.Queue[T | _End] = asyncio.Queue(len(streams))
    tasks = [asyncio.create_task(_pump(stream, arrived)) for stream in streams]
    running = len(streams)
    try:
        while running:
            item = await arrived.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                running -= 1
    finally:
        for task in tasks:
            task.cancel()


async def _pump(stream: AsyncGenerator[T], arrived: "asyncio.Queue[T | _End]") -> None:
    end = _End()
    try:
        async for item in stream:
            await arrived.put(item)
    except Exception as error:
        end = _End(error)
    await arrived.put(end)
