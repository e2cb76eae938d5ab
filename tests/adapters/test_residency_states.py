"""Both tiers under any traffic: a state machine that checks every rule which residency states."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.adapters.eviction.choice import PolicyName, eviction_policy
from server.adapters.foretold import Foretold
from server.adapters.load_failures import LONGEST_SECONDS, PERMANENT_SECONDS
from server.adapters.loader import LoadFailure
from server.adapters.residency import Residency
from server.engine.messages import EvictionReport, LoadReport, PreloadReport, Report
from tests.engine.hand_made import adapter
from tests.scripted_loader import ScriptedLoader, form_of, memory_of

BUDGET = 10
MAX_PENDING = 2
NAMES = ("a", "b", "c", "d", "e")
TORN = LoadFailure("load_failed", "torn")

POLICIES: tuple[PolicyName, ...] = ("lru", "lfu", "cost", "predicted")

names = st.sampled_from(NAMES)


class ResidencyMachine(RuleBasedStateMachine):
    """Requests that wait, run and go while reads and copies end in any order, and forecasts come between.

    `waiting` is the order in which versions are wanted. Names stand for versions; `sizes` are their bytes.
    """

    @initialize(
        sizes=st.lists(st.integers(1, BUDGET), min_size=len(NAMES), max_size=len(NAMES)),
        host=st.sampled_from([0, BUDGET, 3 * BUDGET]),
        copies_wait=st.booleans(),
        policy=st.sampled_from(POLICIES),
    )
    def begin(self, sizes: list[int], host: int, copies_wait: bool, policy: PolicyName) -> None:
        self.sizes = dict(zip(NAMES, sizes, strict=True))
        self.now = 0.0
        self.reports: list[Report] = []
        self.copies_wait = copies_wait
        self.loader = ScriptedLoader(max_pending=MAX_PENDING, copies_wait=copies_wait)
        self.residency = Residency(
            self.loader,
            memory=memory_of(BUDGET),
            host_budget_bytes=host,
            policy=lambda: eviction_policy(policy),
            report=self.reports.append,
            clock=lambda: self.now,
        )
        self.waiting: list[str] = []
        self.settled: list[str] = []
        self.running: Counter[str] = Counter()
        self.unloading: set[str] = set()
        self.discarded: set[str] = set()
        self.kept: set[str] = set()
        self.failed_until: dict[str, float] = {}
        self.failed_in_a_row: Counter[str] = Counter()
        self.states: dict[str, str] = dict.fromkeys(NAMES, "cold")

    @property
    def resident(self) -> list[str]:
        return [entry.name for entry in self.residency.resident()]

    @property
    def arriving(self) -> list[str]:
        return [arrival.version.name for arrival in self.residency.device.arrivals.values()]

    def loaded(self, name: str) -> bool:
        """Has a read of the version ended that was not taken?"""
        return self.loader.is_pending(adapter(name).digest) and adapter(name).digest not in self.loader.running

    def in_host_memory(self, name: str) -> bool:
        return self.loaded(name) or self.residency.host.holds(adapter(name).digest)

    def bytes_of(self, names: Iterable[str]) -> int:
        return sum(self.sizes[name] for name in names)

    def unpinned_space(self) -> int:
        staying = [name for name in self.resident if self.running[name] or name in self.kept]
        return BUDGET - self.bytes_of([*staying, *self.arriving])

    @rule(name=names, place=st.integers(0, len(NAMES)))
    def want(self, name: str, place: int) -> None:
        resident, seen = name in self.resident, len(self.reports)
        tier = self.residency.asked(adapter(name))
        assert (tier == "device") is resident
        assert all(isinstance(report, PreloadReport) and report.name == name for report in self.reports[seen:])
        if name not in self.waiting:
            self.waiting.insert(place, name)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up_waiting(self, data: st.DataObject) -> None:
        self.waiting.remove(data.draw(st.sampled_from(self.waiting)))

    @precondition(lambda self: bool(set(self.waiting) & set(self.resident)))
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in self.waiting if name in self.resident]))
        form = self.residency.pin(adapter(name).digest)
        assert form is self.residency.form(adapter(name).digest)
        assert form.size_bytes == self.sizes[name]
        self.running[name] += 1
        self.waiting.remove(name)
        self.unloading.discard(name)

    @precondition(lambda self: +self.running)
    @rule(data=st.data())
    def end_running(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(+self.running)))
        self.running[name] -= 1
        self.residency.unpin(adapter(name).digest)
        if name in self.unloading and not self.running[name]:
            self.unloading.remove(name)
            assert name not in self.resident
        else:
            assert name in self.resident

    @rule(name=names)
    def unload(self, name: str) -> None:
        if self.loader.is_pending(adapter(name).digest) and name not in self.settled:
            self.discarded.add(name)
        self.residency.unload(adapter(name).digest)
        self.failed_until.pop(name, None)
        self.failed_in_a_row.pop(name, None)
        assert name in self.settled or not self.residency.host.holds(adapter(name).digest)
        if self.running[name]:
            self.unloading.add(name)
            assert name in self.resident
        else:
            assert name not in self.resident

    @rule(data=st.data())
    def start_a_load_beside_the_engine_thread(self, data: st.DataObject) -> None:
        """What a submitting thread does; whether the version is cold may have changed since it asked."""
        self.loader.start(adapter(data.draw(st.sampled_from(self.resident or NAMES))))

    @rule(foretold=st.lists(names, unique=True), pinned=st.sets(names, max_size=1))
    def foretell(self, foretold: list[str], pinned: set[str]) -> None:
        self.kept = pinned & set(foretold)
        self.residency.foretell(
            [
                Foretold(adapter(name), rate=1 / (1 + place), pinned=name in pinned, file_bytes=self.sizes[name])
                for place, name in enumerate(foretold)
            ]
        )

    @rule(size_bytes=st.integers(1, BUDGET))
    def give_up(self, size_bytes: int) -> None:
        before, seen = self.residency.used_bytes, len(self.reports)
        idle = [name for name in self.resident if not self.running[name] and name not in self.kept]
        freed = self.residency.give_up(size_bytes)
        assert freed == before - self.residency.used_bytes
        assert freed >= size_bytes if self.bytes_of(idle) >= size_bytes else freed == 0
        assert {one.name for one in self.reports[seen:] if isinstance(one, EvictionReport)} <= set(idle)

    @precondition(lambda self: self.loader.running)
    @rule(data=st.data(), fails=st.booleans())
    def end_load(self, data: st.DataObject, fails: bool) -> None:
        digest = data.draw(st.sampled_from(self.loader.running))
        self.loader.end(digest, TORN if fails else form_of(self.sizes[digest.removeprefix("sha256:")]))

    @precondition(lambda self: self.loader.running)
    @rule(data=st.data())
    def begin_load(self, data: st.DataObject) -> None:
        self.loader.begin(data.draw(st.sampled_from(self.loader.running)))

    @precondition(lambda self: self.loader.copying)
    @rule(data=st.data())
    def end_copy(self, data: st.DataObject) -> None:
        self.loader.end_copy(data.draw(st.sampled_from(self.loader.copying)))

    @rule(seconds=st.sampled_from([0.1, PERMANENT_SECONDS, LONGEST_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def settle(self) -> None:
        waiting, space, before = list(self.waiting), self.unpinned_space(), [*self.resident, *self.arriving]
        self.discarded -= set(waiting)
        finished = [one for one in self.loader.finished() if one.version.name not in before]
        failing = {
            one.version.name
            for one in finished
            if isinstance(one.outcome, LoadFailure)
            and one.version.name not in self.discarded
            and self.residency.failure(one.version.digest) is None
        }
        self.discarded -= {one.version.name for one in self.loader.finished()}
        seen = len(self.reports)
        blocked = self.residency.settle([adapter(name) for name in waiting])
        self.settled = waiting
        for name in failing:
            self.failed_in_a_row[name] += 1
            pause = min(PERMANENT_SECONDS * 2 ** (self.failed_in_a_row[name] - 1), LONGEST_SECONDS)
            self.failed_until[name] = self.now + pause
        placed = [name for name in [*self.resident, *self.arriving] if name not in before]
        self.check_reports(self.reports[seen:], waiting, failing, placed)
        self.check_blocked(blocked, waiting)
        if waiting:
            self.check_first(waiting[0], space)

    def check_reports(
        self, reports: Sequence[Report], waiting: list[str], failing: set[str], placed: list[str]
    ) -> None:
        """Each eviction makes room for a version that is placed, and never at the cost of an older request."""
        loads = [one for one in reports if isinstance(one, LoadReport)]
        assert sorted(one.name for one in loads if one.failure == "load_failed") == sorted(failing)
        evictions = [one for one in reports if isinstance(one, EvictionReport)]
        assert {one.reason for one in evictions} <= {"capacity"}
        for load in loads:
            if load.failure is None:
                assert load.size_bytes == self.sizes[load.name]
                self.failed_in_a_row.pop(load.name, None)
        for victim in [one.name for one in evictions if one.tier == "device"]:
            assert not self.running[victim]
            assert victim not in self.kept
            assert any(
                victim not in waiting or (name in waiting and waiting.index(victim) > waiting.index(name))
                for name in placed
            )
        for victim in [one.name for one in evictions if one.tier == "host"]:
            assert victim not in waiting

    def check_blocked(self, blocked: str | None, waiting: list[str]) -> None:
        """`settle` names the oldest version that is loaded and has no place, because older ones or pins take it."""
        here = [*self.resident, *self.arriving]
        placeless = [
            name
            for name in waiting
            if self.in_host_memory(name) and name not in here and not self.residency.failure(adapter(name).digest)
        ]
        assert blocked == (adapter(placeless[0]).digest if placeless else None)
        if placeless:
            older = set(waiting[: waiting.index(placeless[0])])
            staying = [name for name in self.resident if self.running[name] or name in older | self.kept]
            assert self.sizes[placeless[0]] > BUDGET - self.bytes_of([*staying, *self.arriving])

    def check_first(self, first: str, space: int) -> None:
        """The longest-waiting version is on the device, has failed, is being loaded, or pins leave it no space.

        A start that the loader refuses is tried again; forms that wait for space in vain may not be why.
        """
        if first in [*self.resident, *self.arriving] or self.residency.failure(adapter(first).digest):
            return
        if self.in_host_memory(first):
            assert self.sizes[first] > space
        elif not self.loader.is_pending(adapter(first).digest):
            pending = [name for name in NAMES if self.loader.is_pending(adapter(name).digest)]
            asked = [name for name in pending if not self.loader.is_preload(adapter(name).digest)]
            assert len(asked) < MAX_PENDING or not any(self.loaded(name) for name in asked)

    @invariant()
    def the_budgets_hold_and_the_books_agree(self) -> None:
        entries = self.residency.resident()
        taken = sum(entry.size_bytes for entry in entries) + self.bytes_of(self.arriving)
        assert self.residency.used_bytes == taken <= BUDGET
        assert {entry.name for entry in entries if entry.pinned} == set(+self.running)
        assert self.residency.pins == self.running.total()
        assert [entry.size_bytes for entry in entries] == [self.sizes[entry.name] for entry in entries]
        for name in NAMES:
            assert self.residency.is_resident(adapter(name).digest) is (name in self.resident)
        host = self.residency.host
        assert host.used_bytes == sum(entry.size_bytes for entry in host.listed().latest) <= host.budget_bytes

    @invariant()
    def a_failure_is_remembered_for_its_time(self) -> None:
        for name in NAMES:
            remembered = self.now < self.failed_until.get(name, 0.0)
            assert self.residency.failure(adapter(name).digest) == (TORN if remembered else None)

    @invariant()
    def states_follow_one_another(self) -> None:
        """A version that nobody saw loading is never resident; one that leaves is in use or still being copied."""
        for name in NAMES:
            state = self.residency.state(adapter(name).digest)
            before, self.states[name] = self.states[name], state
            if self.copies_wait:
                assert (before, state) not in {("cold", "resident"), ("cold", "evicting")}
            assert (state == "evicting") <= (self.running[name] > 0 or name in self.arriving)
            assert (state == "resident") <= (name in self.resident)
            assert (state == "cold") <= (name not in [*self.resident, *self.arriving])

    @invariant()
    def a_preload_ends_at_most_once(self) -> None:
        ends = Counter(report.name for report in self.reports if isinstance(report, PreloadReport))
        for name, count in ends.items():
            assert count + (adapter(name).digest in self.residency._ledger) <= self.loader.preloads[name]

    def teardown(self) -> None:
        """Once all that runs has ended and loads succeed, everyone gets their turn, the oldest first."""
        if not hasattr(self, "residency"):
            return
        self.residency.foretell([])
        self.now += LONGEST_SECONDS
        for name in list(self.running.elements()):
            self.running[name] -= 1
            self.residency.unpin(adapter(name).digest)
        while self.waiting:
            for _ in range(8):
                for digest in self.loader.running:
                    self.loader.end(digest, form_of(self.sizes[digest.removeprefix("sha256:")]))
                for digest in self.loader.copying:
                    self.loader.end_copy(digest)
                self.residency.settle([adapter(name) for name in self.waiting])
                self.now += LONGEST_SECONDS
            assert self.residency.is_resident(adapter(self.waiting[0]).digest)
            self.waiting.pop(0)
        self.residency.stop()
        assert not list(self.residency._ledger)


ResidencyMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestResidencyUnderAnyTraffic = ResidencyMachine.TestCase
