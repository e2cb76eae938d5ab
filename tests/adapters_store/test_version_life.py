"""Retiring, restoring, noting and listing versions, and what two publishers who expect something get."""

from pathlib import Path

import pytest

from adapters_store.atomic_file import read_limited
from adapters_store.errors import AliasConflict, InvalidNotes, UnknownAdapter, VersionInUse, VersionRetired
from adapters_store.names import AdapterName, AdapterRef, parse_adapter_name
from adapters_store.store import AdapterStore
from adapters_store.version_notes import VersionNotes
from tests.adapters_store.hand_made import write_adapter


@pytest.fixture
def digests(store: AdapterStore, support: AdapterName, tmp_path: Path) -> list[str]:
    """Three versions of `support`, the last of which is latest and the first prod."""
    sources = [write_adapter(tmp_path / f"source-{seed}", seed=seed) for seed in range(3)]
    published = [store.publish(support, source).version.digest for source in sources]
    store.promote(AdapterRef(support, digest=published[0]))
    return published


def test_a_retired_version_resolves_no_more_until_it_is_restored(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    retired = store.retire(support, digests[1])
    assert retired.retired is not None
    ref = AdapterRef(support, digest=digests[1])
    with pytest.raises(UnknownAdapter, match="was retired: restore it"):
        store.resolve(ref)
    with pytest.raises(VersionRetired):
        store.promote(ref)
    assert store.retire(support, digests[1]).retired == retired.retired
    assert store.restore(support, digests[1]).retired is None
    assert store.resolve(ref).digest == digests[1]
    assert store.restore(support, digests[1]) == store.resolve(ref)


def test_publishing_again_restores(
    store: AdapterStore, support: AdapterName, digests: list[str], tmp_path: Path
) -> None:
    store.retire(support, digests[1])
    again = store.publish(support, tmp_path / "source-1")
    assert not again.created
    assert again.version.retired is None
    assert store.resolve(AdapterRef(support)).digest == digests[1]


def test_a_version_with_an_alias_is_not_retired(store: AdapterStore, support: AdapterName, digests: list[str]) -> None:
    with pytest.raises(VersionInUse, match="'prod' points to"):
        store.retire(support, digests[0])
    removed = store.unalias(support, "prod")
    assert (removed.alias, removed.digest) == ("prod", digests[0])
    assert store.retire(support, digests[0]).retired is not None
    with pytest.raises(UnknownAdapter, match="no alias 'prod'"):
        store.unalias(support, "prod")


def test_a_rollback_passes_over_what_was_retired(store: AdapterStore, support: AdapterName, digests: list[str]) -> None:
    store.retire(support, digests[1])
    assert store.rollback(support, "latest").digest == digests[0]


def test_what_is_unknown_cannot_be_retired_restored_or_noted(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    foreign = f"sha256:{0:064x}"
    for change in (store.retire, store.restore):
        with pytest.raises(UnknownAdapter, match="no version"):
            change(support, foreign)
    with pytest.raises(UnknownAdapter, match="no version"):
        store.annotate(AdapterRef(support, digest=foreign), VersionNotes())


def test_of_two_publishers_who_saw_the_same_one_is_told(
    store: AdapterStore, support: AdapterName, digests: list[str], tmp_path: Path
) -> None:
    one, two = (write_adapter(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"), 10))
    won = store.publish(support, one, expect=digests[2])
    assert won.previous == digests[2]
    with pytest.raises(AliasConflict, match=won.version.digest):
        store.publish(support, two, expect=digests[2])
    assert store.resolve(AdapterRef(support)).digest == won.version.digest
    with pytest.raises(AliasConflict, match="not to nothing"):
        store.publish(support, two, expect="none")
    fresh = parse_adapter_name("fresh")
    assert store.publish(fresh, two, expect="none").previous is None
    with pytest.raises(AliasConflict):
        store.rollback(support, "latest", expect=digests[2])


def test_notes_are_added_to_and_replaced(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    notes = VersionNotes(source="upload", source_job="job-1", tags=("draft", "lang=de"))
    version = store.publish(support, write_adapter(tmp_path / "source"), notes=notes).version
    assert version.notes == notes
    newer = VersionNotes(evaluation={"accuracy": 0.9, "passed": True}, description="Better.", tags=("good",))
    noted = store.annotate(AdapterRef(support), newer, remove_tags=["draft", "never there"])
    assert noted.notes.tags == ("good", "lang=de")
    assert noted.notes.evaluation == {"accuracy": 0.9, "passed": True}
    assert (noted.notes.source, noted.notes.source_job) == ("upload", "job-1")
    assert store.resolve(AdapterRef(support)).notes == noted.notes
    assert AdapterStore(store.root).resolve(AdapterRef(support)).notes == noted.notes
    with pytest.raises(InvalidNotes, match="at most 32 tags"):
        store.annotate(AdapterRef(support), VersionNotes(tags=tuple(f"t{number:02}" for number in range(32))))
    assert store.resolve(AdapterRef(support)).notes == noted.notes


def test_the_history_says_where_an_alias_has_been(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    store.rollback(support, "latest")
    assert store.get(support).history is None
    history = store.get(support, history=True).history
    assert history is not None
    moves = [(move.digest, move.reason) for move in history["latest"]]
    assert moves == [*((digest, "publish") for digest in digests), (digests[1], "rollback")]
    assert [move.reason for move in history["prod"]] == ["promote"]


def test_a_list_shows_what_aliases_point_to_and_the_newest(
    store: AdapterStore, support: AdapterName, digests: list[str]
) -> None:
    store.rollback(support, "latest")
    (entry,) = store.list()
    assert [version.digest for version in entry.versions] == digests
    store.unalias(support, "prod")
    store.promote(AdapterRef(support, digest=digests[2]), "latest")
    (entry,) = store.list()
    assert [version.digest for version in entry.versions] == [digests[2]]
    assert entry.version_count == 3


def test_pages_hold_every_name_once_and_in_order(store: AdapterStore, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "source")
    names = sorted(["zeta", "acme/b", "acme/a", "Beta", "acme-2/c"])
    for name in names:
        store.publish(parse_adapter_name(name), source)
    seen: list[str] = []
    after = None
    while True:
        page = store.page(2, after)
        seen += [str(entry.name) for entry in page.entries]
        if not page.has_more:
            break
        after = page.entries[-1].name
    assert seen == names
    assert store.page(10).entries == tuple(store.list())
    assert not store.page(5).has_more
    after_one_that_is_not_there = store.page(1, parse_adapter_name("acme/aa"))
    assert [str(entry.name) for entry in after_one_that_is_not_there.entries] == ["acme/b"]


def test_a_page_reads_its_own_documents_only(
    store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_adapter(tmp_path / "source")
    for number in range(10):
        store.publish(parse_adapter_name(f"name-{number}"), source)
    other = AdapterStore(store.root)
    other.names.names()
    read: list[Path] = []

    def counted(path: Path, limit: int) -> bytes:
        read.append(path)
        return read_limited(path, limit)

    monkeypatch.setattr("adapters_store.name_directory.read_limited", counted)
    assert len(other.page(3).entries) == 3
    assert len(read) == 3
    assert len(other.page(3).entries) == 3
    assert len(read) == 3


def test_a_name_that_is_not_there_leaves_no_lock(store: AdapterStore, support: AdapterName) -> None:
    for change in (
        lambda: store.promote(AdapterRef(support)),
        lambda: store.rollback(support),
        lambda: store.retire(support, f"sha256:{0:064x}"),
        lambda: store.delete(support),
    ):
        with pytest.raises(UnknownAdapter):
            change()
    assert list(store.names.path.iterdir()) == []
