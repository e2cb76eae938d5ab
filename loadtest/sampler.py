"""What a server holds while it is loaded, once a second: adapters on the device, requests, memory of its processes."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self

import httpx
import psutil

from loadtest.server_metrics import Scrape, read_scrape


@dataclass(frozen=True)
class Sample:
    """One look, `at` seconds after the first. `memory_bytes` is None where the server's process is not known."""

    at: float
    scrape: Scrape
    memory_bytes: int | None


@dataclass
class Sampler:
    """Looks at a server every `interval` seconds while its context is open.

    `process_id` is that of the server, whose children count too. A look that fails is left out; `samples` has the rest.
    """

    client: httpx.AsyncClient
    process_id: int | None = None
    interval: float = 1.0
    samples: list[Sample] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._began = perf_counter()
        self._task = asyncio.create_task(self._look_again_and_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _look_again_and_again(self) -> None:
        number = 0
        while True:
            at = perf_counter() - self._began
            scrape = await scrape_of(self.client)
            if scrape is not None:
                self.samples.append(Sample(at, scrape, memory_of(self.process_id)))
            number += 1
            await asyncio.sleep(max(0.0, self._began + number * self.interval - perf_counter()))


async def scrape_of(client: httpx.AsyncClient) -> Scrape | None:
    """What the server's metrics say, or None where it gives none."""
    try:
        response = await client.get("/metrics")
        return read_scrape(response.text) if response.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError):
        return None


def memory_of(process_id: int | None) -> int | None:
    """Bytes of main memory that a process and its children hold, pages that they share counted for each."""
    if process_id is None:
        return None
    try:
        process = psutil.Process(process_id)
        return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return None
