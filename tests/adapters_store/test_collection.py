"""What a collection takes and what it leaves."""

import os
import re
import threading
import time
from pathlib import Path

import pytest

from adapters_store.collection import CollectionRules, collect
from adapters_store.errors import CorruptTask, CorruptVersion, StoreError, UnknownAdapter, VersionRetired
from adapters_store.lease import Lease
from adapters_store.names import AdapterName, AdapterRef, TaskName, parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import Arm, TaskRule
from adapters_store.verification import verify
from adapters_store.version_notes import VersionNotes
from tests.adapters_store.hand_made import write_adapter

NOW = CollectionRules(grace=0.0, depth=0)


@pytest.fixture
def digests(store: AdapterStore, support: AdapterName, tmp_path: Path) -> list[str]:
    """Four versions of `support`; `latest` is the last."""
    sources = [write_adapter(tmp_path / f"source-{seed}", seed=seed) for seed in range(4)]
    return [store.publish(support, source).version.digest for source in sources]


def on_disk(store: AdapterStore) -> set[str]:
    return {digest for shard in store.versions.shards() for digest in store.versions.digests(shard)}


def test_a_dry_run_says_what_would_go_and_changes_nothing(store: AdapterStore, digests: list[str]) -> None:
    planned = collect(store, NOW)
    assert planned.dry
    assert [one.digest for one in planned.versions] == digests[:3]
    assert set(planned.removed) == set(digests[:3])
    assert planned.bytes > 0
    assert on_disk(store) == set(digests)
    done = collect(store, NOW, dry=False)
    assert (done.versions, set(done.removed), done.bytes) == (planned.versions, set(planned.removed), planned.bytes)
    assert on_disk(store) == {digests[3]}


def test_what_was_collected_resolves_no_more_and_comes_back_by_publishing(
    store: AdapterStore, support: AdapterName, digests: list[str], tmp_path: Path
) -> None:
    collect(store, NOW, dry=False)
    ref = AdapterRef(support, digest=digests[0])
    with pytest.raises(UnknownAdapter, match="was collected: publish its content again"):
        store.resolve(ref)
    with pytest.raises(VersionRetired):
        store.promote(ref)
    with pytest.raises(VersionRetired):
        store.restore(support, digests[0])
    again = store.publish(support, tmp_path / "source-0")
    assert again.created
    assert store.resolve(ref).collected is None
    assert verify(store).is_whole


def test_little_stays_of_what_was_collected(store: AdapterStore, support: AdapterName, digests: list[str]) -> None:
    store.annotate(AdapterRef(support, digest=digests[0]), VersionNotes(description="x" * 2000))
    (document,) = store.names.path.glob("*.json")
    before = document.stat().st_size
    collect(store, NOW, dry=False)
    assert document.stat().st_size < before - 2000
    old = store.get(support).versions[0]
    assert (old.digest, old.notes, old.metadata.target_modules) == (digests[0], VersionNotes(), ())
    assert old.metadata.rank_max == 4


def test_what_aliases_lead_back_to_stays_to_the_depth(store: AdapterStore, digests: list[str]) -> None:
    assert [one.digest for one in collect(store, CollectionRules(grace=0.0, depth=2)).versions] == digests[:1]
    assert collect(store, CollectionRules(grace=0.0, depth=3)).versions == ()


def test_nothing_goes_before_the_grace_is_over(
    store: AdapterStore, support: AdapterName, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = CollectionRules(grace=3600.0, depth=0)
    assert collect(store, rules).versions == ()
    monkeypatch.setattr("adapters_store.collection.time", _Later(3601.0))
    assert [one.digest for one in collect(store, rules).versions] == digests[:3]


class _Later:
    """A clock that goes so many seconds before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds


def test_a_lease_keeps_a_version_until_it_is_given_up(store: AdapterStore, digests: list[str]) -> None:
    lease = Lease(store.leases, window=60.0)
    assert lease.hold(digests[0])
    assert not lease.hold(digests[0])
    done = collect(store, NOW, dry=False)
    assert done.leased == 1
    assert on_disk(store) == {digests[0], digests[3]}
    lease.end()
    collect(store, NOW, dry=False)
    assert on_disk(store) == {digests[3]}


def test_a_collection_that_waits_for_a_name_keeps_no_lease_from_being_written(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    collecting = threading.Thread(target=collect, args=(AdapterStore(store.root), NOW), kwargs={"dry": False})
    with store.names.lock(support):
        collecting.start()
        for _ in range(5):
            time.sleep(0.02)
            Lease(store.leases, window=60.0).hold(digests[0])
    collecting.join()
    assert on_disk(store) == {digests[0], digests[3]}


def test_a_collection_lets_leases_be_written_between_two_names(
    store: AdapterStore, digests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = parse_adapter_name("other")
    for seed in range(2):
        store.publish(other, tmp_path / f"source-{seed}")
    lease = Lease(store.leases, window=60.0)
    monkeypatch.setattr("adapters_store.collection.let_others_in", lambda: lease.hold(digests[1]))
    done = collect(store, NOW, dry=False)
    assert digests[1] in {one.digest for one in done.versions}
    assert store.leases.live_digests() == {digests[1]}
    assert digests[1] not in done.removed


def test_a_lease_keeps_the_files_of_a_deleted_name(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    lease = Lease(store.leases, window=60.0)
    lease.hold(digests[0])
    store.delete(support)
    assert set(collect(store, NOW, dry=False).removed) == set(digests[1:])
    lease.end()
    assert collect(store, NOW, dry=False).removed == (digests[0],)
    assert on_disk(store) == set()


def test_the_grace_of_a_deleted_name_begins_with_its_deletion(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    for digest in digests:
        os.utime(store.versions.path_of(digest), (0, 0))
    store.delete(support)
    assert collect(store, CollectionRules(grace=3600.0)).removed == ()
    assert set(collect(store, CollectionRules(grace=0.0)).removed) == set(digests)


def test_a_version_that_another_name_has_keeps_its_files(
    store: AdapterStore, support: AdapterName, digests: list[str], tmp_path: Path
) -> None:
    other = parse_adapter_name("other")
    store.publish(other, tmp_path / "source-0")
    done = collect(store, NOW, dry=False)
    assert digests[0] in {one.digest for one in done.versions}
    assert digests[0] not in done.removed
    assert store.resolve(AdapterRef(other)).digest == digests[0]
    assert verify(store).is_whole


def test_a_publisher_that_comes_between_keeps_its_version(
    store: AdapterStore, digests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the collection saw what no name has, and before it removes that."""
    other, remove = parse_adapter_name("other"), store.versions.remove

    def publish_first(*arguments: object, **options: object) -> object:
        monkeypatch.undo()
        AdapterStore(store.root).publish(other, tmp_path / "source-0")
        return remove(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store.versions, "remove", publish_first)
    assert digests[0] not in collect(store, NOW, dry=False).removed
    assert verify(store).is_whole
    assert store.resolve(AdapterRef(other)).digest == digests[0]


def test_what_cannot_be_read_may_need_anything_so_nothing_goes(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    (store.root / "leases" / f"{'0' * 32}.json").write_text("{")
    with pytest.raises(StoreError, match="is not a lease"):
        collect(store, NOW, dry=False)
    (store.root / "leases" / f"{'0' * 32}.json").unlink()
    document = next(path for path in (store.root / "names").iterdir() if path.suffix == ".json")
    whole = document.read_bytes()
    document.write_bytes(whole[:50])
    with pytest.raises(CorruptVersion):
        collect(store, NOW, dry=False)
    assert on_disk(store) == set(digests)


def test_a_time_that_is_none_stops_a_collection(store: AdapterStore, digests: list[str]) -> None:
    (document,) = store.names.path.glob("*.json")
    times = re.sub(rb'"20[0-9-]{8}T[^"]*"', b'"once"', document.read_bytes())
    document.write_bytes(times)
    with pytest.raises(CorruptVersion, match="'once' for a time"):
        collect(store, NOW, dry=False)
    assert on_disk(store) == set(digests)


def test_what_a_task_names_by_digest_stays_until_no_rollback_leads_to_it(
    store: AdapterStore, digests: list[str]
) -> None:
    tasks, name = TaskDirectory.of_store(store.root), TaskName("summarise")
    tasks.set(name, TaskRule(arms=(Arm(adapter=f"support@{digests[0]}"),)))
    tasks.set(name, TaskRule(arms=(Arm(adapter="support"),)))
    done = collect(store, NOW, dry=False)
    assert (set(done.removed), done.leased) == (set(digests[1:3]), 1)
    assert on_disk(store) == {digests[0], digests[3]}
    tasks.delete(name)
    assert set(collect(store, NOW, dry=False).removed) == {digests[0]}


def test_a_damaged_task_stops_a_collection(store: AdapterStore, digests: list[str]) -> None:
    tasks = TaskDirectory.of_store(store.root)
    tasks.set(TaskName("summarise"), TaskRule(arms=(Arm(adapter="support"),)))
    next(tasks.path.glob("*.json")).write_bytes(b"{")
    with pytest.raises(CorruptTask):
        collect(store, NOW, dry=False)
    assert on_disk(store) == set(digests)
