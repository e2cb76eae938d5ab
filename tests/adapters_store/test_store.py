"""Publishing, resolving and moving aliases."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters_store.digest import directory_digest, verify_directory
from adapters_store.errors import (
    AdapterTooLarge,
    AliasConflict,
    InvalidAdapter,
    InvalidName,
    UnknownAdapter,
)
from adapters_store.limits import Limits
from adapters_store.names import AdapterName, AdapterRef, parse_adapter_name, parse_adapter_ref
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import BASE, QUERY, lora_pair, write_adapter


def publish(store: AdapterStore, name: str, tmp_path: Path, seed: int, alias: str = "latest") -> str:
    """Publish an adapter of its own content for every seed; gives its digest."""
    source = write_adapter(tmp_path / f"source-{seed}", seed=seed)
    return store.publish(parse_adapter_name(name), source, alias=alias).version.digest


def test_a_published_adapter_resolves_by_name_alias_and_digest(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    source = write_adapter(tmp_path / "source")
    publication = store.publish(support, source)
    version = publication.version
    assert publication.created
    assert publication.alias == "latest"
    assert publication.warnings == ()
    assert version.digest == directory_digest(source) == directory_digest(version.directory)
    assert version.metadata.rank_max == 4
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(version.created) < timedelta(minutes=1)
    for ref in (AdapterRef(support), AdapterRef(support, alias="latest"), AdapterRef(support, digest=version.digest)):
        assert store.resolve(ref) == version
    verify_directory(version.directory, version.digest)


def test_no_name_becomes_a_path(store: AdapterStore, tmp_path: Path) -> None:
    digest = publish(store, "acme/support", tmp_path, 0).removeprefix("sha256:")
    stored = sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())
    assert not any("acme" in path or "support" in path for path in stored)
    assert f"versions/{digest[:2]}/{digest}/adapter_model.safetensors" in stored
    assert list((store.root / "tmp").iterdir()) == []


def test_the_same_content_again_is_the_same_version(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "source")
    first, again = store.publish(support, source), store.publish(support, source)
    assert again.version == first.version
    assert not again.created
    assert len(store.get(support).versions) == 1


def test_new_content_moves_the_alias_and_keeps_the_old_version(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    old, new = publish(store, "support", tmp_path, 0), publish(store, "support", tmp_path, 1)
    assert store.resolve(AdapterRef(support)).digest == new
    assert store.resolve(AdapterRef(support, digest=old)).digest == old
    assert [version.digest for version in store.get(support).versions] == [old, new]
    assert publish(store, "support", tmp_path, 0) == old
    assert store.resolve(AdapterRef(support)).digest == old


def test_two_names_share_content_and_nothing_else(store: AdapterStore, tmp_path: Path) -> None:
    one, two = parse_adapter_name("one"), parse_adapter_name("two")
    digest = publish(store, "one", tmp_path, 0)
    with pytest.raises(UnknownAdapter):
        store.resolve(AdapterRef(two, digest=digest))
    publish(store, "two", tmp_path, 1)
    with pytest.raises(UnknownAdapter, match="no version"):
        store.resolve(AdapterRef(two, digest=digest))
    assert publish(store, "two", tmp_path, 0) == digest
    assert store.resolve(AdapterRef(two)).directory == store.resolve(AdapterRef(one)).directory


@pytest.mark.parametrize("name", ["base", "task", "acme/base"])
def test_a_reserved_name_cannot_be_published(store: AdapterStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidName, match="reserved"):
        publish(store, name, tmp_path, 0)


def test_an_alias_is_a_slug(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    with pytest.raises(InvalidName, match="alias"):
        publish(store, "support", tmp_path, 0, alias="../prod")
    publish(store, "support", tmp_path, 0)
    with pytest.raises(InvalidName, match="alias"):
        store.promote(AdapterRef(support), "")


def test_a_refused_adapter_leaves_nothing_behind(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "source", tensors=lora_pair(QUERY, 8, 9))
    with pytest.raises(InvalidAdapter):
        store.publish(support, source)
    with pytest.raises(UnknownAdapter):
        store.resolve(AdapterRef(support))
    assert not [path for path in (store.root / "versions").rglob("*") if path.is_file()]
    assert list((store.root / "tmp").iterdir()) == []


def test_the_limits_are_the_stores(tmp_path: Path, support: AdapterName) -> None:
    store = AdapterStore(tmp_path / "store", limits=Limits(max_rank=2))
    with pytest.raises(AdapterTooLarge, match="rank 4"):
        store.publish(support, write_adapter(tmp_path / "source"), base=BASE)


def test_without_a_described_base_the_publication_warns(tmp_path: Path, support: AdapterName) -> None:
    store = AdapterStore(tmp_path / "store")
    source = write_adapter(tmp_path / "source")
    first = store.publish(support, source)
    assert "not checked against a base" in first.warnings[-1]
    again = store.publish(support, source, base=BASE)
    assert again.warnings == again.version.metadata.warnings == ()
    assert again.version.created == first.version.created
    assert store.resolve(AdapterRef(support)) == again.version


def test_an_unknown_name_suggests_what_may_be_meant(store: AdapterStore, tmp_path: Path) -> None:
    publish(store, "acme/support", tmp_path, 0)
    with pytest.raises(UnknownAdapter, match=re.escape("did you mean 'acme/support'?")):
        store.resolve(parse_adapter_ref("acme/suport"))
    with pytest.raises(UnknownAdapter, match=r"there is no adapter 'suport'$"):
        store.resolve(parse_adapter_ref("suport"))
    with pytest.raises(UnknownAdapter, match="its aliases are: latest"):
        store.resolve(parse_adapter_ref("acme/support@prod"))


def test_the_base_is_not_an_adapter_of_the_store(store: AdapterStore) -> None:
    with pytest.raises(UnknownAdapter):
        store.resolve(parse_adapter_ref("base"))


def test_promote_moves_an_alias_and_says_from_where(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    old, new = publish(store, "support", tmp_path, 0), publish(store, "support", tmp_path, 1)
    first = store.promote(AdapterRef(support, digest=old))
    assert (first.name, first.alias, first.previous, first.digest) == (support, "prod", None, old)
    second = store.promote(AdapterRef(support), expect=old)
    assert (second.previous, second.digest) == (old, new)
    assert store.resolve(AdapterRef(support, alias="prod")).digest == new
    assert store.get(support).aliases == {"latest": new, "prod": new}


def test_promote_of_what_is_there_records_nothing(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    digest = publish(store, "support", tmp_path, 0)
    first, again = store.promote(AdapterRef(support)), store.promote(AdapterRef(support))
    assert (again.previous, again.digest, again.moved) == (digest, digest, first.moved)
    with pytest.raises(UnknownAdapter, match="no earlier version"):
        store.rollback(support)


def test_promote_with_a_stale_expectation_changes_nothing(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    old, new = publish(store, "support", tmp_path, 0), publish(store, "support", tmp_path, 1)
    with pytest.raises(AliasConflict, match="points to nothing"):
        store.promote(AdapterRef(support), expect=old)
    store.promote(AdapterRef(support))
    with pytest.raises(AliasConflict, match=new):
        store.promote(AdapterRef(support, digest=old), expect=old)
    assert store.resolve(AdapterRef(support, alias="prod")).digest == new


def test_rollback_goes_back_by_history(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    digests = [publish(store, "support", tmp_path, seed, alias="prod") for seed in range(3)]
    back = store.rollback(support)
    assert (back.alias, back.previous, back.digest) == ("prod", digests[2], digests[1])
    assert store.rollback(support).digest == digests[0]
    with pytest.raises(UnknownAdapter, match="no earlier version"):
        store.rollback(support)
    assert store.resolve(AdapterRef(support, alias="prod")).digest == digests[0]
    with pytest.raises(UnknownAdapter, match="no alias 'canary'; its aliases are: prod"):
        store.rollback(support, "canary")


def test_delete_forgets_the_name_and_its_digests_but_no_shared_content(store: AdapterStore, tmp_path: Path) -> None:
    digest = publish(store, "one", tmp_path, 0)
    publish(store, "two", tmp_path, 0)
    one, two = parse_adapter_name("one"), parse_adapter_name("two")
    removed = store.delete(one)
    assert removed.name == one
    assert removed.aliases == {"latest": digest}
    for ref in (AdapterRef(one), AdapterRef(one, digest=digest)):
        with pytest.raises(UnknownAdapter):
            store.resolve(ref)
    kept = store.resolve(AdapterRef(two))
    verify_directory(kept.directory, kept.digest)
    with pytest.raises(UnknownAdapter):
        store.delete(one)


def test_a_deleted_name_starts_afresh(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    for seed in range(2):
        publish(store, "support", tmp_path, seed)
    store.delete(support)
    publish(store, "support", tmp_path, 2)
    assert len(store.get(support).versions) == 1
    with pytest.raises(UnknownAdapter, match="no earlier version"):
        store.rollback(support, "latest")


def test_list_gives_every_name_in_order(store: AdapterStore, tmp_path: Path) -> None:
    assert store.list() == []
    for seed, name in enumerate(["zeta", "acme/support", "beta"]):
        publish(store, name, tmp_path, seed)
    entries = store.list()
    assert [str(entry.name) for entry in entries] == ["acme/support", "beta", "zeta"]
    assert [entry.created for entry in entries] == [entry.versions[0].created for entry in entries]
    assert entries[1] == store.get(parse_adapter_name("beta"))


def test_an_unchanged_name_is_not_read_again(
    store: AdapterStore, support: AdapterName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = store.publish(support, write_adapter(tmp_path / "source")).version
    assert store.resolve(AdapterRef(support)) == version
    monkeypatch.setattr(
        "adapters_store.name_directory.read_limited", lambda *_: pytest.fail("the document was read again")
    )
    assert store.resolve(AdapterRef(support)) == version
