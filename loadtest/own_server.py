"""A server of our own with random adapters, started anew for each load so that none inherits another's cache."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loadtest.adapters import RandomAdapter, published_adapters
from loadtest.served_adapters import UnsuitableServerError
from loadtest.server_metrics import read_scrape
from server.commands.server_process import ServerProcess

# The first start of a base on a machine fetches and quantises it.
READY_SECONDS = 900.0
_REPORTED_SECONDS = 10.0


@dataclass(frozen=True)
class Target:
    """A server that is loaded. `digests` are its adapters, `ranks` those of them that are known.

    `process_id` is None where it is not ours.
    """

    url: str
    digests: dict[str, str]
    process_id: int | None = None
    ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass
class OwnServer:
    """Starts `switchyard serve` over `store`. `prepare` publishes the adapters and must come first.

    With `cache`, the device has room for so many of the largest of them.
    """

    base: str
    store: Path
    log: Path
    flags: Sequence[str]
    cache: int | None = None
    digests: dict[str, str] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    budget_flags: tuple[str, ...] = ()

    def prepare(
        self, adapters: Sequence[RandomAdapter], *, keep: bool, on_published: Callable[[], object] = lambda: None
    ) -> None:
        """Start a server, which describes its base to the store, and publish the adapters.

        Raises:
            SwitchyardError: the server does not start, or the store refuses an adapter.
            UnsuitableServerError: the size of an adapter on the device cannot be measured.
        """
        with self._serving(()) as process:
            self.digests = published_adapters(self.store, adapters, keep=keep, on_published=on_published)
            self.ranks = {adapter.name: adapter.rank for adapter in adapters}
            if self.cache is not None:
                largest = max(adapters, key=lambda adapter: adapter.rank)
                each = _bytes_on_device(process.url, largest.name)
                self.budget_flags = ("--adapter-budget-bytes", str(self.cache * each))

    @contextmanager
    def serving(self, flags: Sequence[str] = ()) -> Iterator[Target]:
        """The server with the adapters, with more flags."""
        with self._serving((*self.budget_flags, *flags)) as process:
            yield Target(process.url, self.digests, process.process_id, self.ranks)

    @contextmanager
    def _serving(self, flags: Sequence[str]) -> Iterator[ServerProcess]:
        given = [*self.flags, *flags]
        with tempfile.TemporaryDirectory(prefix="switchyard-traffic-") as fresh:
            if not any(flag.partition("=")[0] == "--traffic-history" for flag in given):
                # With the history of an earlier load a server would foretell this one, which it has seen.
                given += ["--traffic-history", str(Path(fresh) / "traffic.history")]
            command = ["--base", self.base, "--store", str(self.store), *given]
            with ServerProcess(command, log=self.log) as process:
                process.wait_until_ready(READY_SECONDS)
                yield process


def _bytes_on_device(url: str, name: str) -> int:
    """How many bytes the adapter takes there, measured on a server that has no other."""
    body = {"model": name, "prompt": "a", "max_tokens": 1, "fallback": "error"}
    with httpx.Client(base_url=url, timeout=READY_SECONDS, trust_env=False) as client:
        answer = client.post("/v1/completions", json=body)
        found, until = None, time.monotonic() + _REPORTED_SECONDS
        while answer.is_success and not found and time.monotonic() < until:
            time.sleep(0.1)  # the engine reports its state some times a second
            found = read_scrape(client.get("/metrics").text).gauges.get("adapter_bytes")
    if answer.status_code != httpx.codes.OK or not found:
        raise UnsuitableServerError(f"{name} answered {answer.status_code}: its size cannot be measured")
    return int(found)
