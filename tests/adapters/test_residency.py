"""The device tier: who gets onto it, who leaves it, and in which order."""

import itertools
from unittest.mock import patch

from server.adapters.eviction.choice import PolicyName
from server.adapters.foretold import Foretold
from server.adapters.load_failures import PERMANENT_SECONDS
from server.adapters.loader import LoadFailure
from server.adapters.residency import Residency
from server.engine.messages import EvictionReport, LoadReport, Report, ResidentAdapter, Tier
from tests.engine.hand_made import adapter
from tests.scripted_loader import ScriptedLoader, form_of, memory_of

BUDGET = 10
MAX_PENDING = 2
NAMES = ("a", "b", "c", "d", "e")
TORN = LoadFailure("load_failed", "torn")

POLICIES: tuple[PolicyName, ...] = ("lru", "lfu", "cost", "predicted")


class Bench:
    """A residency over a scripted loader, with its reports."""

    def __init__(self, *, max_pending: int = 8) -> None:
        self.now = 0.0
        self.reports: list[Report] = []
        self.loader = ScriptedLoader(max_pending=max_pending)
        self.residency = Residency(
            self.loader, memory=memory_of(BUDGET), report=self.reports.append, clock=lambda: self.now
        )

    def settle(self, *names: str) -> str | None:
        return self.residency.settle([adapter(name) for name in names])

    def end_load(self, name: str, outcome: int | LoadFailure) -> None:
        self.loader.end(adapter(name).digest, form_of(outcome) if isinstance(outcome, int) else outcome)

    def ask(self, name: str) -> Tier:
        """A request asks for the version, runs and ends."""
        self.now += 0.01
        tier = self.residency.asked(adapter(name))
        if tier == "device":
            self.residency.pin(adapter(name).digest)
            self.residency.unpin(adapter(name).digest)
        return tier

    def load(self, name: str, size_bytes: int) -> None:
        self.now += 0.01
        self.settle(name)
        self.end_load(name, size_bytes)
        self.settle(name)
        assert self.residency.is_resident(adapter(name).digest)

    @property
    def resident(self) -> list[str]:
        return [entry.name for entry in self.residency.resident()]


def test_a_wanted_version_is_loaded_once_and_then_resident() -> None:
    bench = Bench()
    assert bench.settle("a", "b") is None
    assert bench.settle("a", "b") is None
    assert bench.loader.running == ["sha256:a", "sha256:b"]
    bench.end_load("b", 3)
    bench.settle("a", "b")
    assert bench.resident == ["b"]
    assert bench.residency.form("sha256:b").size_bytes == bench.residency.used_bytes == 3
    assert bench.residency.resident() == [
        ResidentAdapter(name="b", digest="sha256:b", rank=0, size_bytes=3, pinned=False)
    ]


def test_the_least_recently_used_leave_first_and_no_more_than_needed() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.load(name, 3)
    bench.ask("a")
    bench.load("d", 4)
    assert bench.resident == ["c", "a", "d"]
    bench.load("e", 6)
    assert bench.resident == ["d", "e"]


def test_nothing_is_evicted_for_a_version_that_would_not_fit_all_the_same() -> None:
    bench = Bench()
    bench.load("a", 5)
    bench.load("b", 5)
    bench.residency.pin("sha256:b")
    bench.settle("c")
    bench.end_load("c", 6)
    assert bench.settle("c") == "sha256:c"
    assert bench.resident == ["a", "b"]
    bench.residency.unpin("sha256:b")
    assert bench.settle("c") is None
    assert bench.resident == ["c"]


def test_a_younger_request_does_not_overtake_one_that_waits_for_space() -> None:
    bench = Bench()
    bench.load("a", 6)
    bench.residency.pin("sha256:a")
    bench.settle("b", "c")
    bench.end_load("b", 7)
    bench.end_load("c", 1)
    assert bench.settle("b", "c") == "sha256:b"
    assert bench.resident == ["a"]


def test_an_older_request_takes_the_place_of_a_younger_one_and_never_the_other_way_round() -> None:
    bench = Bench()
    bench.load("young", 6)
    bench.settle("old", "young")
    bench.end_load("old", 6)
    assert bench.settle("young", "old") == "sha256:old"
    assert bench.settle("old", "young") is None
    assert bench.resident == ["old"]


def test_an_older_load_is_not_refused_for_the_sake_of_younger_forms_that_wait_for_space() -> None:
    bench = Bench(max_pending=2)
    bench.load("running", 10)
    bench.residency.pin("sha256:running")
    bench.settle("b", "c")
    bench.end_load("b", 1)
    bench.end_load("c", 1)
    assert bench.settle("b", "c") == "sha256:b"
    bench.settle("old", "b", "c")
    assert bench.loader.running == ["sha256:old"]
    assert bench.loader.is_pending("sha256:b")
    assert not bench.loader.is_pending("sha256:c")


def test_a_form_that_was_dropped_for_an_older_load_is_not_said_to_wait_for_space() -> None:
    bench = Bench(max_pending=1)
    bench.load("running", 10)
    bench.residency.pin("sha256:running")
    bench.settle("b")
    bench.end_load("b", 1)
    assert bench.settle("old", "b") is None
    assert bench.loader.running == ["sha256:old"]


def test_a_load_that_nobody_waits_for_any_more_takes_free_space_only() -> None:
    bench = Bench()
    bench.load("a", 6)
    bench.settle("b", "c")
    bench.end_load("b", 4)
    bench.end_load("c", 4)
    bench.settle()
    assert sorted(bench.resident) == ["a", "b"]
    assert not bench.loader.is_pending("sha256:c")


def test_a_version_that_was_loaded_twice_keeps_its_first_form_and_its_pins() -> None:
    again: list[int | LoadFailure] = [3, TORN]
    for wanted, outcome in itertools.product(((), ("a",)), again):
        bench = Bench()
        bench.load("a", 3)
        form = bench.residency.pin("sha256:a")
        bench.loader.start(adapter("a"))
        bench.end_load("a", outcome)
        bench.settle(*wanted)
        assert bench.residency.form("sha256:a") is form
        assert (bench.residency.pins, bench.residency.used_bytes) == (1, 3)
        assert not bench.loader.is_pending("sha256:a")
        assert bench.residency.failure("sha256:a") is None
        bench.residency.unpin("sha256:a")
        assert bench.residency.pins == 0


def test_a_failure_answers_for_its_time_and_is_then_tried_again() -> None:
    bench = Bench()
    bench.settle("a")
    bench.end_load("a", TORN)
    bench.settle("a")
    assert bench.residency.failure("sha256:a") == TORN
    bench.now = PERMANENT_SECONDS - 0.01
    bench.settle("a")
    assert bench.residency.failure("sha256:a") == TORN
    assert bench.loader.running == []
    bench.now = PERMANENT_SECONDS
    assert bench.residency.failure("sha256:a") is None
    bench.settle("a")
    assert bench.loader.running == ["sha256:a"]


def test_a_load_beside_a_failure_that_is_remembered_is_dropped() -> None:
    again: list[int | LoadFailure] = [3, LoadFailure("checksum_mismatch", "torn otherwise")]
    for wanted, outcome in itertools.product(((), ("a",)), again):
        bench = Bench()
        bench.settle("a")
        bench.end_load("a", TORN)
        bench.settle("a")
        bench.loader.start(adapter("a"))
        bench.end_load("a", outcome)
        bench.settle(*wanted)
        assert bench.residency.failure("sha256:a") == TORN
        assert not bench.loader.is_pending("sha256:a")
        assert bench.resident == []
        assert [report.failure for report in bench.reports if isinstance(report, LoadReport)] == ["load_failed"]


def test_a_load_that_fails_while_the_residency_settles_is_a_failure_like_any_other() -> None:
    for wanted_later in (("a",), ()):
        bench = Bench()
        bench.settle("a", "b")

        def fail_a(_: str, bench: Bench = bench) -> None:
            if "sha256:a" in bench.loader.running:
                bench.end_load("a", TORN)

        bench.loader.before_peek = fail_a
        bench.settle(*wanted_later, "b")
        bench.settle(*wanted_later, "b")
        assert bench.residency.failure("sha256:a") == TORN
        assert [report.failure for report in bench.reports if isinstance(report, LoadReport)] == ["load_failed"]


def test_pins_are_counted_and_an_unload_waits_for_the_last() -> None:
    bench = Bench()
    bench.load("a", 3)
    bench.residency.pin("sha256:a")
    bench.residency.pin("sha256:a")
    bench.residency.unload("sha256:a")
    bench.residency.unpin("sha256:a")
    assert bench.residency.pins == 1
    assert bench.resident == ["a"]
    bench.residency.unpin("sha256:a")
    assert bench.resident == []
    assert (bench.residency.pins, bench.residency.used_bytes) == (0, 0)


def test_an_unload_of_an_idle_version_is_immediate_and_of_an_unknown_one_harmless() -> None:
    bench = Bench()
    bench.load("a", 3)
    bench.residency.unload("sha256:a")
    bench.residency.unload("sha256:unknown")
    assert bench.resident == []


def test_loads_and_evictions_are_reported_in_the_order_they_happen() -> None:
    bench = Bench()
    bench.load("a", 6)
    bench.load("b", 6)
    bench.residency.unload("sha256:b")
    bench.settle("c")
    bench.end_load("c", TORN)
    bench.settle("c")
    assert bench.reports == [
        LoadReport(name="a", digest="sha256:a", seconds=0.5, size_bytes=6, rank=0),
        EvictionReport(name="a", digest="sha256:a", reason="capacity", size_bytes=6),
        LoadReport(name="b", digest="sha256:b", seconds=0.5, size_bytes=6, rank=0),
        EvictionReport(name="b", digest="sha256:b", reason="unload", size_bytes=6),
        LoadReport(name="c", digest="sha256:c", seconds=0.5, size_bytes=0, rank=0, failure="load_failed"),
    ]


def test_what_an_operator_wants_here_is_never_drained_since_it_would_not_leave() -> None:
    bench = Bench()
    bench.load("kept", 4)
    bench.load("busy", 6)
    bench.residency.pin("sha256:busy")
    bench.residency.foretell([Foretold(adapter("kept"), 1.0, pinned=True, file_bytes=4)])
    bench.settle("cold")
    bench.end_load("cold", 4)
    assert bench.settle("cold") == "sha256:cold"
    assert bench.residency.to_drain_for("sha256:cold") == {"sha256:busy"}


def test_more_than_adapters_have_in_all_is_refused_without_a_look_at_each() -> None:
    bench = Bench()
    bench.load("a", 3)
    with patch.object(bench.residency.device, "lendable", side_effect=AssertionError("looked")):
        assert bench.residency.give_up(4) == 0
    assert bench.residency.give_up(3) == 3


def test_after_a_refusal_no_more_reads_are_started_but_queued_preloads_go_as_requests() -> None:
    bench = Bench(max_pending=1)
    bench.loader.start(adapter("foretold"), preload=True)
    with patch.object(bench.loader, "start", wraps=bench.loader.start) as start:
        bench.settle("a", "b", "c", "foretold")
    assert [call.args[0].name for call in start.call_args_list] == ["a", "b", "foretold", "b"]
    assert not bench.loader.is_preload("sha256:foretold")
