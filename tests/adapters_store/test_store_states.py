"""Three processes on one store, in any order of publish, promote, roll back, retire, collect, lease and crash.

Invariants, in any state:

1. What one process did, the others see with their next look, and all see the same.
2. An alias points to a live version: one that was published under the name, and neither retired nor collected.
3. Every live or retired version's files are there and hash to its digest.
4. A version that a living process leased is there and whole, also when its name was deleted or it was retired; and a
   collection never marks it.
5. Of a name's versions a collection takes none that an alias points to, or leads back to within the depth.
6. Of two moves that expect what they read, one wins and the other is told, also when they come at once.
7. A process killed in the middle of a change leaves the change done or not done, and the store whole.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from adapters_store.digest import verify_directory
from adapters_store.errors import AliasConflict, UnknownAdapter, VersionInUse, VersionRetired
from adapters_store.store import AdapterStore
from adapters_store.verification import verify
from tests.adapters_store.hand_made import BASE
from tests.adapters_store.worker_pool import SOURCES, WORKERS, Died, Pool

NAMES = ("one", "acme/two")

workers = st.integers(0, WORKERS - 1)
names = st.sampled_from(NAMES)
seeds = st.integers(0, SOURCES - 1)

State = dict[str, Any]


class StoreMachine(RuleBasedStateMachine):
    """The processes' store beside a model of it: per name where aliases have been, and what became of versions."""

    pool: ClassVar[Pool]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "store"
        self.state: State = {}
        self.paths: dict[tuple[str, str], list[str]] = {}
        self.leased: list[set[str]] = [set() for _ in range(WORKERS)]
        # Leased too late to be used: a lease holds them without need until it is given up.
        self.leased_in_vain: list[set[str]] = [set() for _ in range(WORKERS)]

    @initialize()
    def begin(self) -> None:
        AdapterStore(self.root).describe_base(BASE)
        for number in range(WORKERS):
            self.ask(number, "open", store=str(self.root))

    def teardown(self) -> None:
        for number in range(WORKERS):
            if self.root.exists():
                self.ask(number, "give_up")
        shutil.rmtree(self.folder)

    def ask(self, number: int, do: str, **arguments: Any) -> Any:
        return self.pool.processes[number].ask(do, **arguments)

    def aliases(self, name: str) -> dict[str, str]:
        return {alias: path[-1] for (of, alias), path in self.paths.items() if of == name}

    def versions(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.state.get(name, {})
        return found

    def move(self, name: str, alias: str, digest: str) -> None:
        path = self.paths.setdefault((name, alias), [])
        if path[-1:] != [digest]:
            path.append(digest)

    @rule(number=workers, name=names, seed=seeds, fresh=st.sampled_from(["yes", "no", "stale"]))
    def publish(self, number: int, name: str, seed: int, fresh: str) -> None:
        digest = self.pool.digests[seed]
        before = self.aliases(name).get("latest")
        expect = {"yes": before or "none", "no": None, "stale": self.pool.digests[seed - 1]}[fresh]
        answer = self.ask(number, "publish", name=name, source=seed, expect=expect)
        if expect not in (None, before or "none"):
            assert answer == {"error": AliasConflict.code}
            return
        assert answer == [digest, before]
        self.state.setdefault(name, {})[digest] = "live"
        self.move(name, "latest", digest)

    @rule(number=workers, name=names, seed=seeds, stale=st.booleans())
    def promote(self, number: int, name: str, seed: int, stale: bool) -> None:
        digest, before = self.pool.digests[seed], self.aliases(name).get("prod")
        expect = self.pool.digests[seed - 1] if stale else (before or "none")
        answer = self.ask(number, "promote", name=name, digest=digest, expect=expect)
        known = self.versions(name).get(digest)
        if name not in self.state:
            assert answer == {"error": UnknownAdapter.code}
        elif expect != (before or "none"):
            assert answer == {"error": AliasConflict.code}
        elif known is None:
            assert answer == {"error": UnknownAdapter.code}
        elif known != "live":
            assert answer == {"error": VersionRetired.code}
        else:
            assert answer == [digest, before]
            self.move(name, "prod", digest)

    @rule(number=workers, name=names)
    def rollback(self, number: int, name: str) -> None:
        answer = self.ask(number, "rollback", name=name)
        path = self.paths.get((name, "prod"), [])
        steps = [i for i, step in enumerate(path) if step != path[-1] and self.versions(name)[step] == "live"]
        if not steps:
            assert answer == {"error": UnknownAdapter.code}
            return
        assert answer == [path[steps[-1]], path[-1]]
        del path[steps[-1] + 1 :]

    @rule(number=workers, name=names, seed=seeds)
    def retire(self, number: int, name: str, seed: int) -> None:
        digest = self.pool.digests[seed]
        answer = self.ask(number, "retire", name=name, digest=digest)
        known = self.versions(name).get(digest)
        if known is None:
            assert answer == {"error": UnknownAdapter.code}
        elif digest in self.aliases(name).values():
            assert answer == {"error": VersionInUse.code}
        elif known == "live":
            self.state[name][digest] = "retired"

    @rule(number=workers, name=names, seed=seeds)
    def restore(self, number: int, name: str, seed: int) -> None:
        digest = self.pool.digests[seed]
        answer = self.ask(number, "restore", name=name, digest=digest)
        known = self.versions(name).get(digest)
        if known in (None, "collected"):
            assert answer == {"error": (UnknownAdapter if known is None else VersionRetired).code}
        else:
            self.state[name][digest] = "live"

    @rule(number=workers, name=names)
    def delete(self, number: int, name: str) -> None:
        answer = self.ask(number, "delete", name=name)
        assert (answer is None) == (name in self.state)
        self.forget(name)

    @rule(number=workers, depth=st.integers(0, 2))
    def collect(self, number: int, depth: int) -> None:
        taken = {(name, digest) for name, digest in self.ask(number, "collect", depth=depth)}
        held = set().union(*self.leased)
        for name, versions in self.state.items():
            needed = set(self.aliases(name).values())
            for (of, _), path in self.paths.items():
                if of == name and depth:
                    needed.update([step for step in path[:-1] if versions[step] == "live"][-depth:])
            for digest, known in versions.items():
                is_taken = (name, digest) in taken
                assert not (is_taken and (digest in needed or digest in held))
                if depth == 0 and known != "collected" and digest not in set().union(*self.leased_in_vain):
                    assert is_taken == (digest not in needed and digest not in held)
                if is_taken:
                    versions[digest] = "collected"

    @rule(number=workers, name=names, seed=seeds)
    def use(self, number: int, name: str, seed: int) -> None:
        digest = self.pool.digests[seed]
        answer = self.ask(number, "use", name=name, digest=digest)
        if self.versions(name).get(digest) == "live":
            assert answer == digest
            self.leased[number].add(digest)
        else:
            assert answer == {"error": UnknownAdapter.code}

    @rule(number=workers, name=names)
    def race_to_promote(self, number: int, name: str) -> None:
        """Two promote at once, each expecting what it read: one wins, and the other is told."""
        live = [digest for digest, known in self.versions(name).items() if known == "live"]
        before = self.aliases(name).get("prod")
        wanted = [digest for digest in live if digest != before][:2]
        if len(wanted) < 2:
            return
        racers = [self.pool.processes[number], self.pool.processes[(number + 1) % WORKERS]]
        for racer, digest in zip(racers, wanted, strict=True):
            racer.tell("promote", name=name, digest=digest, expect=before or "none")
        answers = [racer.answer() for racer in racers]
        won = [digest for digest, answer in zip(wanted, answers, strict=True) if answer == [digest, before]]
        assert len(won) == 1
        assert {"error": AliasConflict.code} in answers
        self.move(name, "prod", won[0])

    @rule(number=workers, name=names, seed=seeds)
    def race_to_use_and_collect(self, number: int, name: str, seed: int) -> None:
        """One leases a version while another collects: it is held, or it is gone and the first is told."""
        digest, user = self.pool.digests[seed], (number + 1) % WORKERS
        is_free = (
            self.versions(name).get(digest) == "live"
            and digest not in self.aliases(name).values()
            and not any(digest in held for held in self.leased)
        )
        if not is_free:
            return
        self.pool.processes[number].tell("collect", depth=0)
        answer = self.ask(user, "use", name=name, digest=digest)
        taken = {tuple(one) for one in self.pool.processes[number].answer()}
        if answer == digest:
            assert (name, digest) not in taken
            self.ask(user, "read", digest=digest)
            self.leased[user].add(digest)
        else:
            assert answer == {"error": UnknownAdapter.code}
            assert (name, digest) in taken
            self.leased_in_vain[user].add(digest)
        for of, one in taken:
            self.state[of][one] = "collected"

    @rule(number=workers, name=names, seed=seeds)
    def race_to_publish_and_collect(self, number: int, name: str, seed: int) -> None:
        """One publishes what another may be collecting at this moment: it is there afterwards."""
        digest, before = self.pool.digests[seed], self.aliases(name).get("latest")
        self.pool.processes[number].tell("collect", depth=0)
        publisher = (number + 1) % WORKERS
        assert self.ask(publisher, "publish", name=name, source=seed, expect=None) == [digest, before]
        taken = {(of, one) for of, one in self.pool.processes[number].answer()}
        self.state.setdefault(name, {})[digest] = "live"
        self.move(name, "latest", digest)
        for of, one in taken - {(name, digest)}:
            assert one not in self.aliases(of).values()
            self.state[of][one] = "collected"

    @rule(number=workers)
    def race_to_collect(self, number: int) -> None:
        """Two collect at once: no version is taken twice."""
        racers = [self.pool.processes[number], self.pool.processes[(number + 1) % WORKERS]]
        for racer in racers:
            racer.tell("collect", depth=0)
        taken = [(name, digest) for racer in racers for name, digest in racer.answer()]
        assert len(taken) == len(set(taken))
        for name, digest in taken:
            assert digest not in self.aliases(name).values()
            self.state[name][digest] = "collected"

    @rule(number=workers)
    def give_up(self, number: int) -> None:
        self.ask(number, "give_up")
        self.leased[number].clear()
        self.leased_in_vain[number].clear()

    @rule(number=workers, name=names, seed=seeds, operations=st.integers(0, 40), what=st.sampled_from("prcd"))
    def crash(self, number: int, name: str, seed: int, operations: int, what: str) -> None:
        """Die in the middle of a change. Whether it was done is learnt from the others. The lease stays."""
        digest = self.pool.digests[seed]
        self.ask(number, "die_after", operations=operations)
        orders: dict[str, dict[str, Any]] = {
            "p": {"do": "publish", "name": name, "source": seed, "expect": None},
            "r": {"do": "promote", "name": name, "digest": digest, "expect": None},
            "c": {"do": "collect", "depth": 0},
            "d": {"do": "delete", "name": name},
        }
        with contextlib.suppress(Died):
            self.ask(number, **orders[what])
        held = set().union(*self.leased)
        self.leased[number], self.leased_in_vain[number] = set(), set()
        self.pool.replace(number).ask("open", store=str(self.root))
        # The lease of the dead one still protects what it held, until it lapses: here, until it is taken away.
        found = self.ask((number + 1) % WORKERS, "show")
        self.learn(found, name, digest, what, held)
        self.drop_dead_leases()
        assert [finding for finding in verify(AdapterStore(self.root)).findings if finding.is_fault] == []

    def learn(self, found: State, name: str, digest: str, what: str, held: set[str]) -> None:
        """Take over what a killed process did; nothing but its change may have been done, and that whole."""
        if what == "c":
            for of, versions in self.state.items():
                for one, known in versions.items():
                    if found[of][1][one] != known:
                        assert found[of][1][one] == "collected"
                        assert one not in held
                        assert one not in self.aliases(of).values()
                        versions[one] = "collected"
        elif what == "d":
            if name not in found:
                self.forget(name)
        else:
            alias = "latest" if what == "p" else "prod"
            aliases, versions = found.get(name, [{}, {}])
            if (aliases, versions) != (self.aliases(name), self.versions(name)):
                assert aliases == {**self.aliases(name), alias: digest}
                assert versions == {**self.versions(name), digest: "live"}
                self.state.setdefault(name, {})[digest] = "live"
            if aliases.get(alias) == digest:
                self.move(name, alias, digest)

    def drop_dead_leases(self) -> None:
        """As if the time of the dead had passed: only the leases of the living stay."""
        living = {process.pid for process in self.pool.processes}
        for path in (self.root / "leases").glob("*.json"):
            if int(json.loads(path.read_bytes())["holder"].rpartition(":")[2]) not in living:
                path.unlink()

    def forget(self, name: str) -> None:
        self.state.pop(name, None)
        self.paths = {key: path for key, path in self.paths.items() if key[0] != name}

    @invariant()
    def all_see_the_same(self) -> None:
        expected = {name: [self.aliases(name), self.state[name]] for name in self.state}
        for number in range(WORKERS if self.root.exists() else 0):
            assert self.ask(number, "show") == expected

    @invariant()
    def aliases_point_to_live_versions(self) -> None:
        for name in self.state:
            assert {self.state[name][digest] for digest in self.aliases(name).values()} <= {"live"}

    @invariant()
    def needed_versions_are_whole(self) -> None:
        needed = {one for versions in self.state.values() for one, known in versions.items() if known != "collected"}
        for digest in needed.union(*self.leased):
            hexadecimal = digest.removeprefix("sha256:")
            verify_directory(self.root / "versions" / hexadecimal[:2] / hexadecimal, digest)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(tmp_path_factory.mktemp("sources"))
    StoreMachine.pool = pool
    yield pool
    pool.end()


def run_machine(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=checks,
            # What a race did once it need not do again, so a failure cannot be made smaller.
            phases=[Phase.generate],
            database=None,
        ),
    )


@pytest.mark.usefixtures("pool")
def test_three_processes_hold_the_invariants() -> None:
    run_machine(examples=6, steps=20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("pool")
def test_three_processes_hold_the_invariants_for_long() -> None:
    run_machine(examples=150, steps=50)
