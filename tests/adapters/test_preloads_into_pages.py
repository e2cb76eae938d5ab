"""Preloads onto a device whose memory is pages: what a version's file does not tell, and neighbours."""

import pytest
import torch

from server.adapters.eviction.choice import eviction_policy
from server.adapters.foretold import Foretold
from server.adapters.residency import Residency
from server.adapters.shared_memory import SharedMemory
from server.engine.messages import EvictionReport, PreloadReport, Report
from server.engine.page_pool import PagePool
from tests.engine.hand_made import adapter
from tests.scripted_loader import ScriptedLoader, form_of

PAGE_BYTES = 128


class Bench:
    """A residency over eight pages for adapters, `shared` for either and four for rows; all by hand."""

    def __init__(self, *, host: int, shared: int = 0) -> None:
        self.now = 0.0
        self.reports: list[Report] = []
        self.loader = ScriptedLoader()
        self.pages = PagePool(kv_floor=4, shared=shared, adapter_floor=8, page_bytes=PAGE_BYTES)
        device = torch.empty(1 + self.pages.total, PAGE_BYTES, dtype=torch.uint8)
        self.residency = Residency(
            self.loader,
            memory=SharedMemory(self.pages, device, torch.uint8),
            host_budget_bytes=host,
            policy=lambda: eviction_policy("predicted"),
            report=self.reports.append,
            clock=lambda: self.now,
        )

    def ask(self, *names: str, times: int = 1) -> None:
        for _ in range(times):
            for name in names:
                self.now += 0.05
                self.residency.asked(adapter(name))

    def load(self, name: str, size_bytes: int) -> None:
        self.ask(name)
        self.settle(size_bytes, name)

    def settle(self, size_bytes: int, *wanted: str, times: int = 3) -> None:
        """Let come what may; what is read is of this size."""
        for _ in range(times):
            self.residency.settle([adapter(name) for name in wanted])
            for digest in self.loader.running:
                self.loader.end(digest, form_of(size_bytes))

    def foretell(self, *, size_bytes: int, **rates: float) -> None:
        self.residency.foretell([Foretold(adapter(name), rate, False, size_bytes) for name, rate in rates.items()])

    @property
    def on_device(self) -> set[str]:
        return {entry.name for entry in self.residency.resident()}

    @property
    def ends(self) -> list[tuple[str, str]]:
        return [(one.name, one.outcome) for one in self.reports if isinstance(one, PreloadReport)]


@pytest.mark.parametrize("host", [0, 800])
def test_a_preload_that_is_larger_than_its_file_let_expect_is_read_once(host: int) -> None:
    bench = Bench(host=host)
    bench.load("hot", 6 * PAGE_BYTES)
    bench.foretell(size_bytes=6 * PAGE_BYTES, hot=10.0)
    bench.ask("hot", times=300)
    for _ in range(2):
        bench.foretell(size_bytes=PAGE_BYTES, hot=10.0, x=0.01)
        bench.settle(3 * PAGE_BYTES, times=20)
    assert bench.loader.preloads["x"] == 1
    assert bench.ends == [("x", "wasted")]
    assert bench.on_device == {"hot"}
    bench.residency.unload(adapter("hot").digest)
    bench.settle(3 * PAGE_BYTES)
    assert bench.on_device == {"x"}


@pytest.mark.parametrize("in_host", [True, False])
def test_a_preload_whose_pages_find_no_neighbours_costs_nothing_and_lets_the_next_go(in_host: bool) -> None:
    bench = Bench(host=5000)
    if in_host:
        bench.load("long", 4 * PAGE_BYTES)
        bench.residency.device.remove(adapter("long").digest)
    for name in "abcdefgh":
        bench.load(name, PAGE_BYTES)
    for name in "bdfh":
        bench.residency.pin(adapter(name).digest)
    bench.ask(*"bdfh", times=40)
    bench.reports.clear()
    bench.foretell(size_bytes=4 * PAGE_BYTES, long=50.0)
    bench.settle(4 * PAGE_BYTES)
    assert bench.on_device == set("abcdefgh")
    assert not [one for one in bench.reports if isinstance(one, EvictionReport)]
    assert bench.loader.preloads["long"] == (not in_host)
    assert bench.residency.asked(adapter("long")) == "host"
    assert bench.ends == ([] if in_host else [("long", "useful")])
    bench.residency.foretell(
        [Foretold(adapter("long"), 50.0, False, 4 * PAGE_BYTES), Foretold(adapter("i"), 40.0, False, PAGE_BYTES)]
    )
    bench.settle(PAGE_BYTES)
    assert "i" in bench.on_device


def test_only_what_is_asked_for_or_pinned_takes_the_place_of_prefixes() -> None:
    bench = Bench(host=0, shared=2)
    rows = bench.pages.take(6)
    assert rows is not None
    for page in rows:
        bench.pages.keep(page)
    for name in "abcdefgh":
        bench.load(name, PAGE_BYTES)
    bench.foretell(size_bytes=PAGE_BYTES)
    bench.ask(*"abcdefgh", times=40)
    bench.foretell(size_bytes=PAGE_BYTES, x=0.001)
    bench.settle(PAGE_BYTES)
    bench.loader.start(adapter("unwanted"))
    bench.settle(PAGE_BYTES)
    assert (bench.on_device, bench.pages.kept) == (set("abcdefgh"), 6)
    assert bench.loader.preloads["x"] == 0
    bench.load("asked", PAGE_BYTES)
    assert (bench.on_device, bench.pages.kept) == ({*"abcdefgh", "asked"}, 5)
    bench.residency.foretell([Foretold(adapter("pinned"), 0.0, True, PAGE_BYTES)])
    bench.settle(PAGE_BYTES)
    assert (bench.on_device, bench.pages.kept) == ({*"abcdefgh", "asked", "pinned"}, 4)
