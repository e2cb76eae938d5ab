"""What a verification finds, and what a repair does about it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_store.collection import CollectionRules, collect
from adapters_store.errors import CorruptVersion, UnknownAdapter
from adapters_store.lease import Lease
from adapters_store.name_document import NameDocument
from adapters_store.names import AdapterName, AdapterRef, TaskName, parse_adapter_name
from adapters_store.repair import repair
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import Arm, TaskRule
from adapters_store.verification import verify
from adapters_store.version_record import read_version_record
from tests.adapters_store.hand_made import write_adapter


@pytest.fixture
def digest(store: AdapterStore, support: AdapterName, tmp_path: Path) -> str:
    return store.publish(support, write_adapter(tmp_path / "source")).version.digest


def document_of(store: AdapterStore) -> Path:
    return next(path for path in (store.root / "names").iterdir() if path.suffix == ".json")


def found(store: AdapterStore) -> list[tuple[str, str]]:
    return [(finding.kind, finding.path.parts[0]) for finding in verify(store).findings]


def mended(store: AdapterStore) -> list[str | None]:
    return [done.action for done in repair(store, verify(store).findings)]


def long_ago(path: Path) -> Path:
    os.utime(path, (0, 0))
    return path


def test_a_store_with_all_its_parts_is_whole(store: AdapterStore, support: AdapterName, digest: str) -> None:
    Lease(store.leases, window=60.0).hold(digest)
    store.promote(AdapterRef(support))
    told: list[tuple[int, int]] = []
    checked = verify(store, progress=lambda done, total: told.append((done, total)))
    assert checked.findings == ()
    assert checked.is_whole
    assert (checked.names, checked.versions) == (1, 1)
    assert checked.bytes > 0
    assert told == [(1, 1)]


def test_a_changed_version_is_damaged_and_stays_for_its_publisher(
    store: AdapterStore, support: AdapterName, digest: str, tmp_path: Path
) -> None:
    weights = store.versions.path_of(digest) / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    assert found(store) == [("damaged", "versions")]
    assert mended(store) == [None]
    assert not verify(store).is_whole
    store.publish(support, tmp_path / "source")
    assert verify(store).is_whole


def test_a_damaged_version_that_no_name_has_is_put_aside(
    store: AdapterStore, support: AdapterName, digest: str
) -> None:
    store.delete(support)
    (store.versions.path_of(digest) / "adapter_config.json").unlink()
    assert found(store) == [("damaged", "versions"), ("unreferenced", "versions")]
    action = mended(store)[0]
    assert action is not None
    assert action.startswith("moved to quarantine/")
    assert found(store) == []


def test_a_version_whose_files_are_gone_is_missing(store: AdapterStore, digest: str) -> None:
    shutil.rmtree(store.versions.path_of(digest))
    assert found(store) == [("missing", "versions")]
    assert mended(store) == [None]


def test_a_torn_document_is_rebuilt_without_guessing_its_aliases(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    other = parse_adapter_name("other")
    digests = [
        store.publish(support, write_adapter(tmp_path / f"source-{seed}", seed=seed)).version.digest
        for seed in range(2)
    ]
    document = document_of(store)
    store.publish(other, tmp_path / "source-0")
    shared = next(path for path in (store.root / "names").glob("*.json") if path != document)
    for torn in (document, shared):
        torn.write_bytes(torn.read_bytes()[:100])
    with pytest.raises(CorruptVersion, match="verify --repair"):
        store.resolve(AdapterRef(support))
    actions = mended(store)
    assert "'support' has its 2 versions again, and no alias: promote one" in str(actions)
    assert "'other' has its 1 versions again" in str(actions)
    assert verify(store).is_whole
    with pytest.raises(UnknownAdapter, match="its aliases are: none"):
        store.resolve(AdapterRef(support))
    assert {version.digest for version in store.get(support).versions} == set(digests)
    assert store.promote(AdapterRef(support, digest=digests[1]), "latest").digest == digests[1]


def change_record(store: AdapterStore, digest: str, **fields: Any) -> None:
    """Change what a version's record says; None takes a field away, as in one of an older store."""
    record = store.versions.path_of(digest) / "version.json"
    changed = {**msgspec.json.decode(record.read_bytes()), **fields}
    record.write_bytes(
        msgspec.json.encode({field: value for field, value in changed.items() if value is not None}),
    )


def test_what_was_rebuilt_has_the_whole_grace(store: AdapterStore, support: AdapterName, digest: str) -> None:
    change_record(store, digest, created="2020-01-01T00:00:00.000Z")
    document_of(store).write_bytes(b"{torn")
    mended(store)
    done = collect(store, CollectionRules(), dry=False)
    assert (done.versions, done.removed) == ((), ())
    assert store.resolve(AdapterRef(support, digest=digest)).digest == digest


def test_a_record_that_does_not_tell_of_a_name_is_completed(
    store: AdapterStore, support: AdapterName, digest: str
) -> None:
    other = parse_adapter_name("other")
    change_record(store, digest, names=["other"])
    assert found(store) == [("record", "versions")]
    assert mended(store) == ["written anew"]
    record = store.versions.path_of(digest) / "version.json"
    assert msgspec.json.decode(record.read_bytes())["names"] == [str(support), str(other)]
    document_of(store).write_bytes(b"{torn")
    mended(store)
    assert store.resolve(AdapterRef(support, digest=digest)).digest == digest


def test_a_publisher_killed_after_it_gave_the_name_has_told_the_record(
    store: AdapterStore, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, write = parse_adapter_name("other"), store.names.write

    def die(document: NameDocument) -> None:
        write(document)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(store.names, "write", die)
        with pytest.raises(KeyboardInterrupt):
            store.publish(other, tmp_path / "source")
    assert "other" in read_version_record(store.versions.path_of(digest)).names
    assert verify(store).findings == ()


def test_versions_that_only_a_lost_document_may_have_named_have_the_whole_grace(
    store: AdapterStore, digest: str
) -> None:
    """Records of older stores tell of no name."""
    change_record(store, digest, names=None)
    long_ago(store.versions.path_of(digest))
    document_of(store).write_bytes(b"{torn")
    assert str(mended(store)[0]).startswith("moved to quarantine/")
    assert collect(store, CollectionRules(), dry=False).removed == ()
    assert collect(store, CollectionRules(grace=0.0), dry=False).removed == (digest,)


def test_what_was_mended_since_it_was_found_is_left_alone(
    store: AdapterStore, support: AdapterName, digest: str, tmp_path: Path
) -> None:
    lease, tasks, task = Lease(store.leases, window=60.0), TaskDirectory.of_store(store.root), TaskName("summarise")
    rule = TaskRule(arms=(Arm(adapter="support"),))
    lease.hold(digest)
    tasks.set(task, rule)
    store.delete(support)
    (store.versions.path_of(digest) / "adapter_config.json").unlink()
    base = store.base()
    assert base is not None
    places = [store.root / "base.json", *(store.root / "leases").glob("*.json"), *tasks.path.glob("*.json")]
    for place in places:
        place.write_bytes(b"{")
    findings = verify(store).findings
    assert [finding.kind for finding in findings] == ["damaged"] * 4 + ["unreferenced"]
    store.describe_base(base)
    lease.renew()
    places[2].unlink()
    tasks.set(task, rule)
    store.publish(support, tmp_path / "source")
    assert [done.action for done in repair(store, findings)] == ["it is whole again"] * 4 + [None]
    assert verify(store).findings == ()


def test_a_damaged_version_that_got_a_name_since_is_left_to_its_publisher(
    store: AdapterStore, support: AdapterName, digest: str
) -> None:
    document = document_of(store)
    kept = document.read_bytes()
    store.delete(support)
    (store.versions.path_of(digest) / "adapter_config.json").unlink()
    findings = verify(store).findings
    document.write_bytes(kept)
    assert [done.action for done in repair(store, findings)] == [None, None]
    assert found(store) == [("damaged", "versions")]


def test_a_lease_renewed_since_it_was_found_lapsed_is_left_alone(store: AdapterStore, digest: str) -> None:
    lease = Lease(store.leases, window=60.0, seconds=-2 * 24 * 3600.0)
    lease.hold(digest)
    findings = verify(store).findings
    assert [finding.kind for finding in findings] == ["left-over"]
    (place,) = (store.root / "leases").glob("*.json")
    place.write_bytes(place.read_bytes().replace(b'"expires":1', b'"expires":9'))
    assert [done.action for done in repair(store, findings)] == ["it is whole again"]
    assert store.leases.live_digests() == {digest}


def test_a_time_that_is_none_is_told_and_left_to_be_restored(
    store: AdapterStore, support: AdapterName, digest: str
) -> None:
    document = document_of(store)
    document.write_bytes(document.read_bytes().replace(b'"moved":"20', b'"moved":"x'))
    assert found(store) == [("damaged", "names")]
    assert mended(store) == [None]
    assert store.resolve(AdapterRef(support)).digest == digest


def test_a_document_that_no_version_speaks_of_is_put_aside(store: AdapterStore) -> None:
    (store.root / "names" / f"{'ab' * 32}.json").write_text("{}")
    assert found(store) == [("damaged", "names")]
    assert str(mended(store)[0]).startswith("moved to quarantine/")
    assert found(store) == []


def _foreign_file(store: AdapterStore, digest: str) -> Path:
    return store.root / "names" / "notes.txt"


def _file_in_a_version(store: AdapterStore, digest: str) -> Path:
    return store.versions.path_of(digest) / "pytorch_model.bin"


def _file_beside_versions(store: AdapterStore, digest: str) -> Path:
    return store.versions.path_of(digest).parent / "README.md"


def _file_instead_of_a_shard(store: AdapterStore, digest: str) -> Path:
    return store.root / "versions" / "zz"


def _file_in_the_root(store: AdapterStore, digest: str) -> Path:
    return store.root / "thesis.txt"


def _foreign_lease(store: AdapterStore, digest: str) -> Path:
    return store.root / "leases" / "mine.json"


@pytest.mark.parametrize(
    "place",
    [
        _foreign_file,
        _file_in_a_version,
        _file_beside_versions,
        _file_instead_of_a_shard,
        _file_in_the_root,
        _foreign_lease,
    ],
)
def test_what_the_store_did_not_put_there_is_put_aside_and_kept(
    store: AdapterStore, digest: str, place: Callable[[AdapterStore, str], Path]
) -> None:
    path = place(store, digest)
    path.write_text("of some worth to somebody")
    assert [(finding.kind, finding.path) for finding in verify(store).findings] == [
        ("foreign", path.relative_to(store.root))
    ]
    mended(store)
    assert verify(store).findings == ()
    (kept,) = (store.root / "quarantine").iterdir()
    assert kept.read_text() == "of some worth to somebody"


def test_a_link_in_the_place_of_a_version_is_foreign(store: AdapterStore, digest: str, tmp_path: Path) -> None:
    directory = store.versions.path_of(digest)
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    assert found(store) == [("foreign", "versions")]
    mended(store)
    assert found(store) == [("missing", "versions")]


def test_a_torn_record_is_written_anew(store: AdapterStore, digest: str) -> None:
    record = store.versions.path_of(digest) / "version.json"
    whole = record.read_bytes()
    for torn in (whole[:40], b"", None):
        record.unlink()
        if torn is not None:
            record.write_bytes(torn)
        assert found(store) == [("record", "versions")]
        assert mended(store) == ["written anew"]
        assert record.read_bytes() == whole


def test_a_torn_lease_is_put_aside_so_that_collections_go_on(store: AdapterStore, digest: str) -> None:
    (store.root / "leases" / f"{'0' * 32}.json").write_text("{")
    assert found(store) == [("damaged", "leases")]
    mended(store)
    assert collect(store, CollectionRules(grace=0.0)).versions == ()


def test_a_torn_description_of_the_base_is_put_aside(store: AdapterStore) -> None:
    (store.root / "base.json").write_text("{")
    assert found(store) == [("damaged", "base.json")]
    mended(store)
    assert verify(store).is_whole
    assert store.base() is None


def test_what_a_killed_process_left_is_no_fault_and_swept_after_a_day(store: AdapterStore) -> None:
    fresh = store.root / "tmp" / "fresh"
    fresh.mkdir()
    left = store.root / "tmp" / "left"
    left.mkdir()
    (left / "adapter_config.json").write_text("{}")
    unfinished = store.root / "names" / ".x.json.0123.tmp"
    unfinished.write_text("{")
    base = store.root / ".base.json.0123.tmp"
    base.write_text("{")
    assert found(store) == []
    for path in (left, unfinished, base):
        long_ago(path)
    assert found(store) == [("left-over", base.name), ("left-over", "names"), ("left-over", "tmp")]
    assert verify(store).is_whole
    assert mended(store) == ["removed"] * 3
    assert (left.exists(), unfinished.exists(), base.exists(), fresh.exists()) == (False, False, False, True)


def test_a_version_that_no_name_has_is_no_fault(store: AdapterStore, support: AdapterName, digest: str) -> None:
    store.delete(support)
    assert found(store) == [("unreferenced", "versions")]
    assert verify(store).is_whole
    assert mended(store) == [None]


def test_tasks_are_looked_at_too(store: AdapterStore, digest: str) -> None:
    tasks = TaskDirectory.of_store(store.root)
    tasks.set(TaskName("summarise"), TaskRule(arms=(Arm(adapter="support"),)))
    assert verify(store).findings == ()
    document = next(tasks.path.glob("*.json"))
    document.write_bytes(b"{")
    (tasks.path / "notes.txt").write_text("mine")
    unfinished = tasks.path / f".{document.name}.0123.tmp"
    unfinished.write_bytes(b"")
    long_ago(unfinished)
    assert sorted(found(store)) == [("damaged", "tasks"), ("foreign", "tasks"), ("left-over", "tasks")]
    assert sorted((action or "").partition(" to ")[0] for action in mended(store)) == ["moved", "moved", "removed"]
    assert verify(store).findings == ()
    assert tasks.list() == []
