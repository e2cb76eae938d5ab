"""Threads for what is computed of texts, so that long ones stand in the way of nothing but each other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

_THREADS: Final = 4
# Characters that are encoded or written out in a few milliseconds at most, less than a thread is worth.
_LIGHT: Final = 8_192
# What a value costs beside its characters: a message without any is work, too.
_VALUE: Final = 8

P = ParamSpec("P")
T = TypeVar("T")


class TextThreads:
    """A few threads. Not asyncio's own: names are resolved in those, and must not wait for somebody's long text."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="text")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    async def run_if_heavy(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread, or at once where all of the arguments together are light."""
        if is_light(args, kwargs):
            return call(*args, **kwargs)
        return await self.run(call, *args, **kwargs)

    def close(self) -> None:
        """Take no more calls; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def is_light(*values: object) -> bool:
    """Whether the texts in (JSON-like) values, and the values themselves, are few."""
    left = _LIGHT
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        left -= _VALUE
        if isinstance(value, str):
            left -= len(value)
        elif isinstance(value, Mapping | Sequence):
            if len(value) * _VALUE > left:
                return False
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
            left -= sum(map(len, value)) if isinstance(value, Mapping) else 0
        if left < 0:
            return False
    return True
