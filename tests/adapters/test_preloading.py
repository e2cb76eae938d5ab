"""What comes nearer to the device before anybody asks, at whose cost, and what becomes of it."""

import pytest

from server.adapters.eviction.choice import PolicyName, eviction_policy
from server.adapters.foretold import Foretold, measured
from server.adapters.loader import Loaded, LoadFailure
from server.adapters.residency import Residency
from server.engine.messages import (
    AdapterVersion,
    EvictionReport,
    Forecast,
    ForetoldVersion,
    LoadReport,
    PreloadReport,
    Report,
)
from tests.engine.hand_made import adapter
from tests.scripted_loader import ScriptedLoader, form_of, memory_of

SIZE = 4


class Bench:
    """A residency with place for two versions of `SIZE` bytes on the device, and for `host` in host memory."""

    def __init__(self, *, host: int = 8, policy: PolicyName = "predicted", copies_wait: bool = False) -> None:
        self.now = 0.0
        self.reports: list[Report] = []
        self.loader = ScriptedLoader(copies_wait=copies_wait)
        self.residency = Residency(
            self.loader,
            memory=memory_of(2 * SIZE),
            host_budget_bytes=host * SIZE,
            policy=lambda: eviction_policy(policy),
            report=self.reports.append,
            clock=lambda: self.now,
        )

    def foretell(self, *pinned: str, **rates: float) -> None:
        names = [*rates, *(name for name in pinned if name not in rates)]
        self.residency.foretell(
            [Foretold(adapter(name), rates.get(name, 0.0), name in pinned, file_bytes=SIZE) for name in names]
        )

    def ask(self, name: str) -> None:
        self.now += 1.0
        self.residency.asked(adapter(name))

    def settle(self, *wanted: str) -> None:
        """Let everything come that may: reads succeed at once."""
        for _ in range(12):
            self.residency.settle([adapter(name) for name in wanted])
            for digest in self.loader.running:
                self.loader.begin(digest)
                self.loader.end(digest, form_of(SIZE))

    def use(self, name: str) -> None:
        self.ask(name)
        self.settle(name)
        self.settle()

    @property
    def on_device(self) -> set[str]:
        return {entry.name for entry in self.residency.resident()}

    @property
    def in_host(self) -> set[str]:
        return {entry.name for entry in self.residency.host.listed().latest}

    @property
    def ends(self) -> list[tuple[str, str]]:
        return [(one.name, one.outcome) for one in self.reports if isinstance(one, PreloadReport)]

    @property
    def loads(self) -> list[LoadReport]:
        return [one for one in self.reports if isinstance(one, LoadReport)]


def test_the_hottest_come_onto_the_device_and_the_next_into_host_memory() -> None:
    bench = Bench(host=3)
    bench.foretell(a=4.0, b=3.0, c=2.0, d=1.0)
    bench.settle()
    assert bench.on_device == {"a", "b"}
    assert bench.in_host == {"a", "b", "c"}
    assert [(load.name, load.preload, load.source) for load in bench.loads] == [
        ("a", True, "store"),
        ("b", True, "store"),
    ]
    assert bench.ends == []


def test_a_preload_is_useful_with_its_first_request_and_with_no_further_one() -> None:
    bench = Bench()
    bench.foretell(a=1.0)
    bench.settle()
    assert bench.residency.asked(adapter("a")) == "device"
    assert bench.residency.asked(adapter("a")) == "device"
    assert bench.ends == [("a", "useful")]
    bench.residency.stop()
    assert bench.ends == [("a", "useful")]


def test_a_preload_that_only_reached_host_memory_is_useful_there() -> None:
    bench = Bench(host=3)
    bench.foretell(a=4.0, b=3.0, c=2.0)
    bench.settle()
    assert bench.residency.asked(adapter("c")) == "host"
    assert bench.ends == [("c", "useful")]
    bench.settle("c")
    assert bench.loads[-1].source == "host"
    assert (bench.loads[-1].hash_seconds, bench.loads[-1].read_seconds, bench.loads[-1].preload) == (0.0, 0.0, False)


def test_a_preload_that_leaves_unused_is_wasted_however_it_leaves() -> None:
    bench = Bench(host=0, policy="lru")
    bench.foretell(a=0.001)
    bench.settle()
    bench.use("b")
    bench.use("c")
    assert bench.ends == [("a", "wasted")]
    bench.residency.give_up(2 * SIZE)
    bench.foretell(d=1000.0)
    bench.settle()
    bench.residency.unload(adapter("d").digest)
    assert bench.ends == [("a", "wasted"), ("d", "wasted")]
    bench.foretell(e=1000.0)
    bench.settle()
    bench.residency.stop()
    assert bench.ends[2:] == [("e", "wasted")]


def test_a_preload_that_fails_is_wasted_and_is_not_tried_again_at_once() -> None:
    bench = Bench()
    bench.foretell(a=1.0)
    bench.residency.settle([])
    bench.loader.end(adapter("a").digest, LoadFailure("checksum_mismatch", "torn"))
    bench.settle()
    assert bench.ends == [("a", "wasted")]
    assert [(load.failure, load.preload) for load in bench.loads] == [("checksum_mismatch", True)]


def test_a_request_that_comes_before_its_preload_began_makes_it_a_load_like_any_other() -> None:
    bench = Bench()
    bench.foretell(a=1.0)
    bench.residency.settle([])
    bench.loader.start(adapter("a"))
    bench.ask("a")
    bench.settle("a")
    assert bench.ends == []
    assert [(load.name, load.preload) for load in bench.loads] == [("a", False)]


def test_a_request_that_comes_while_its_preload_is_read_is_served_by_it() -> None:
    bench = Bench()
    bench.foretell(a=1.0)
    bench.residency.settle([])
    bench.loader.begin(adapter("a").digest)
    bench.loader.start(adapter("a"))
    bench.ask("a")
    assert bench.ends == [("a", "useful")]


def test_no_preload_begins_while_a_request_waits_for_a_load() -> None:
    bench = Bench()
    bench.foretell(a=1.0)
    bench.residency.settle([adapter("b")])
    assert bench.loader.running == [adapter("b").digest]
    bench.settle("b")
    assert bench.on_device == {"a", "b"}


def test_a_preload_takes_the_place_of_what_is_colder_and_of_nothing_else() -> None:
    bench = Bench()
    bench.use("a")
    bench.use("b")
    bench.foretell(a=1.0, b=1.0, c=0.0001)
    bench.settle()
    assert bench.on_device == {"a", "b"}
    bench.residency.pin(adapter("a").digest)
    bench.foretell(c=1000.0, d=900.0)
    bench.settle()
    assert bench.on_device == {"a", "c"}


def test_least_recently_used_preloads_only_into_free_space() -> None:
    bench = Bench(policy="lru")
    bench.use("a")
    bench.foretell(b=1000.0, c=900.0)
    bench.settle()
    assert bench.on_device == {"a", "b"}


def test_an_operators_pin_comes_first_and_is_never_evicted_for_space() -> None:
    bench = Bench()
    bench.use("a")
    bench.use("b")
    bench.foretell("p", a=1000.0)
    bench.settle()
    assert "p" in bench.on_device
    for name in ("c", "d", "e"):
        bench.use(name)
        assert "p" in bench.on_device
    assert bench.residency.give_up(SIZE) == SIZE
    assert bench.on_device == {"p"}
    bench.foretell()
    bench.use("f")
    bench.use("g")
    bench.use("h")
    assert "p" not in bench.on_device


def test_pins_that_exceed_the_budget_are_told_once_and_the_rest_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for _ in range(3):
        bench.foretell("p", "q", "r")
        bench.settle()
    assert bench.on_device == {"p", "q"}
    assert sum("does not fit beside the other pins" in line for line in caplog.messages) == 1
    assert [load for load in bench.loads if load.failure is not None] == []
    assert bench.residency.failure(adapter("r").digest) is None


def test_what_left_the_device_comes_back_from_host_memory_without_a_read() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.use(name)
    assert bench.in_host == {"a", "b", "c"}
    gone = next(name for name in ("a", "b", "c") if name not in bench.on_device)
    assert bench.residency.asked(adapter(gone)) == "host"
    assert not bench.residency.is_cold(adapter(gone).digest)
    bench.residency.settle([adapter(gone)])
    assert gone in bench.on_device
    assert bench.loader.running == []
    assert bench.loads[-1].source == "host"


def test_host_memory_stays_within_its_budget_and_says_what_left_it() -> None:
    bench = Bench(host=2)
    for name in ("a", "b", "c", "d"):
        bench.use(name)
    assert bench.residency.host.used_bytes == 2 * SIZE
    left = [one for one in bench.reports if isinstance(one, EvictionReport) and one.tier == "host"]
    assert len(left) == 2
    assert {one.reason for one in left} == {"capacity"}


def test_of_two_unwanted_reads_one_may_take_the_place_of_the_other_while_they_are_looked_through() -> None:
    bench = Bench(host=1)
    for name in ("a", "b"):
        bench.loader.start(adapter(name))
    bench.loader.end(adapter("a").digest, form_of(SIZE))
    finished = bench.loader.finished
    looks = iter(range(10))

    def ends_between_the_looks() -> list[Loaded]:
        if next(looks) == 1:
            bench.loader.end(adapter("b").digest, form_of(SIZE))
        return finished()

    bench.loader.finished = ends_between_the_looks  # type: ignore[method-assign]
    bench.residency.settle([])
    bench.residency.settle([])
    assert (bench.on_device, bench.in_host) == ({"b"}, {"b"})


def test_an_unload_empties_both_tiers_and_forgets_failures() -> None:
    bench = Bench()
    bench.use("a")
    bench.residency.unload(adapter("a").digest)
    assert (bench.on_device, bench.in_host) == (set(), set())
    assert bench.residency.state(adapter("a").digest) == "cold"
    bench.residency.settle([adapter("b")])
    bench.loader.end(adapter("b").digest, LoadFailure("checksum_mismatch", "torn"))
    bench.residency.settle([adapter("b")])
    bench.residency.unload(adapter("b").digest)
    assert bench.residency.failure(adapter("b").digest) is None


def test_an_unload_during_the_copy_takes_effect_when_it_ends_unless_a_request_comes() -> None:
    for wanted_again in (False, True):
        bench = Bench(copies_wait=True)
        bench.residency.settle([adapter("a")])
        bench.loader.end(adapter("a").digest, form_of(SIZE))
        bench.residency.settle([adapter("a")])
        assert bench.residency.state(adapter("a").digest) == "loading"
        assert not bench.residency.is_resident(adapter("a").digest)
        assert bench.residency.used_bytes == SIZE
        bench.residency.unload(adapter("a").digest)
        assert bench.residency.state(adapter("a").digest) == "evicting"
        bench.residency.settle([adapter("a")] if wanted_again else [])
        bench.loader.end_copy(adapter("a").digest)
        bench.residency.settle([adapter("a")] if wanted_again else [])
        assert bench.residency.is_resident(adapter("a").digest) is wanted_again
        assert bench.residency.used_bytes == (SIZE if wanted_again else 0)


def test_a_copy_that_fails_gives_its_memory_back_and_is_a_failed_load() -> None:
    bench = Bench(copies_wait=True)
    bench.residency.settle([adapter("a")])
    bench.loader.end(adapter("a").digest, form_of(SIZE))
    bench.residency.settle([adapter("a")])
    failure = LoadFailure("load_failed", "out of memory", transient=True)
    bench.loader.end_copy(adapter("a").digest, failure)
    bench.residency.settle([adapter("a")])
    assert bench.residency.failure(adapter("a").digest) == failure
    assert bench.residency.used_bytes == 0
    assert [load.failure for load in bench.loads] == ["load_failed"]


def test_the_versions_whose_files_are_gone_are_not_foretold() -> None:
    gone = AdapterVersion(name="gone", digest="sha256:0", directory="/nowhere")
    assert measured(Forecast(versions=[ForetoldVersion(version=gone, rate=1.0)])) == []
