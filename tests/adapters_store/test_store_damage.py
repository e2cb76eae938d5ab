"""Torn, foreign and missing files in a store: never served, always named, mended by publishing again."""

import json
import logging
import shutil
from pathlib import Path

import msgspec
import pytest

from adapters_store.digest import verify_directory
from adapters_store.errors import CorruptVersion, StoreFull, UnknownAdapter
from adapters_store.names import AdapterName, AdapterRef, parse_adapter_name
from adapters_store.records import Version
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import write_adapter


@pytest.fixture
def version(store: AdapterStore, support: AdapterName, tmp_path: Path) -> Version:
    return store.publish(support, write_adapter(tmp_path / "source")).version


def document_of(store: AdapterStore) -> Path:
    (path,) = (store.root / "names").glob("*.json")
    return path


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 400, b'{"a":' * 100_000])
def test_a_torn_name_document_is_named_relative_to_the_store(
    store: AdapterStore, support: AdapterName, version: Version, content: bytes
) -> None:
    path = document_of(store)
    path.write_bytes(content)
    for call in (lambda: store.resolve(AdapterRef(support)), lambda: store.get(support), lambda: store.delete(support)):
        with pytest.raises(CorruptVersion, match=f"names/{path.name}") as damage:
            call()
        assert str(store.root) not in damage.value.message


def test_a_torn_document_hides_no_other_name(
    store: AdapterStore, version: Version, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document_of(store).write_bytes(b"{")
    store.publish(parse_adapter_name("other"), tmp_path / "source")
    with caplog.at_level(logging.WARNING):
        assert [str(entry.name) for entry in store.list()] == ["other"]
    assert "is not the document of an adapter name" in caplog.text


def test_a_document_under_another_names_place_is_foreign(
    store: AdapterStore, version: Version, support: AdapterName, tmp_path: Path
) -> None:
    theirs = document_of(store).read_bytes()
    store.delete(support)
    store.publish(parse_adapter_name("other"), tmp_path / "source")
    document_of(store).write_bytes(theirs)
    with pytest.raises(CorruptVersion, match="holds the name support"):
        store.resolve(AdapterRef(parse_adapter_name("other")))
    with pytest.raises(UnknownAdapter):
        store.resolve(AdapterRef(support))


def test_a_linked_document_is_not_followed(
    store: AdapterStore, version: Version, support: AdapterName, tmp_path: Path
) -> None:
    path = document_of(store)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CorruptVersion):
        store.resolve(AdapterRef(support))


def test_other_files_in_the_tree_are_ignored(store: AdapterStore, support: AdapterName, version: Version) -> None:
    (store.root / "names" / ".half-written.json.tmp").write_text("{")
    (store.root / "names" / "notes.json").write_text("{}")
    (store.root / "versions" / "zz").mkdir()
    assert store.resolve(AdapterRef(support)) == version
    assert len(store.list()) == 1


def test_a_changed_version_fails_its_check(store: AdapterStore, version: Version) -> None:
    weights = version.directory / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(CorruptVersion, match="now hashes to"):
        verify_directory(version.directory, version.digest)


def test_a_removed_version_directory_fails_its_check(store: AdapterStore, version: Version) -> None:
    shutil.rmtree(version.directory)
    with pytest.raises(CorruptVersion, match="is missing"):
        verify_directory(version.directory, version.digest)


@pytest.mark.parametrize("damage", ["removed", "emptied", "changed", "file", "link"])
def test_publishing_the_content_again_mends_it(
    store: AdapterStore, support: AdapterName, version: Version, tmp_path: Path, damage: str
) -> None:
    directory = version.directory
    if damage == "changed":
        (directory / "adapter_config.json").unlink()
        (directory / "adapter_config.json").write_text("{}")
    else:
        shutil.rmtree(directory)
    match damage:
        case "emptied":
            directory.mkdir()
        case "file":
            directory.write_text("foreign")
        case "link":
            directory.symlink_to(tmp_path / "source")
    again = store.publish(support, tmp_path / "source")
    assert (again.version, again.created) == (version, False)
    assert directory.is_dir()
    assert not directory.is_symlink()
    verify_directory(version.directory, version.digest)
    assert list((store.root / "tmp").iterdir()) == []
    assert (tmp_path / "source" / "adapter_config.json").is_file()


def test_a_full_disk_leaves_the_name_as_it_was(
    store: AdapterStore, support: AdapterName, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        with pytest.raises(StoreFull, match="free some space"):
            store.publish(support, write_adapter(tmp_path / "next", seed=1))
        with pytest.raises(StoreFull, match="free some space"):
            store.promote(AdapterRef(support))
    assert store.resolve(AdapterRef(support)) == version
    assert list(store.get(support).aliases) == ["latest"]
    assert list((store.root / "tmp").iterdir()) == []
    assert not list((store.root / "names").glob("*.tmp"))


def test_a_document_of_the_first_format_is_read_and_written_in_todays(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    digest = store.publish(support, write_adapter(tmp_path / "source")).version.digest
    (document,) = store.names.path.glob("*.json")
    fields = json.loads(document.read_bytes())
    first = {name: fields[name] for name in ("name", "versions", "aliases")} | {"format": 1}
    document.write_text(json.dumps(first))
    assert store.resolve(AdapterRef(support)).digest == digest
    store.promote(AdapterRef(support))
    assert json.loads(document.read_bytes())["format"] == 2


def test_a_document_that_nobody_could_read_again_is_not_written(
    store: AdapterStore, support: AdapterName, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = document_of(store).stat().st_size
    monkeypatch.setattr("adapters_store.name_directory.MAX_DOCUMENT_BYTES", size + 200)
    with pytest.raises(StoreFull, match="gc --apply") as refused:
        store.publish(support, write_adapter(tmp_path / "next", seed=1))
    assert refused.value.status == 507
    assert store.resolve(AdapterRef(support)) == version
    assert AdapterStore(store.root).resolve(AdapterRef(support)) == version


def test_a_document_that_contradicts_itself_is_not_written(
    store: AdapterStore, support: AdapterName, version: Version
) -> None:
    document = store.names.read(support)
    assert document is not None
    with store.names.lock(support), pytest.raises(CorruptVersion, match="nothing was changed"):
        store.names.write(msgspec.structs.replace(document, versions=()))
    assert store.resolve(AdapterRef(support)) == version
