"""Adapters on a hub: pinned to a commit, only the files that make an adapter, and clear words where there is none."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store.errors import AdapterTooLarge, InvalidAdapter, SourceUnavailable, StoreFull
from adapters_store.hub_source import HubSource, parse_hub_source, publish_from_hub
from adapters_store.limits import Limits
from adapters_store.names import AdapterName
from adapters_store.store import AdapterStore
from adapters_store.version_notes import VersionNotes
from tests.adapters_store.fake_hub import FakeHub, running_hub
from tests.adapters_store.hand_made import write_adapter

FILES = ["adapter_config.json", "adapter_model.safetensors"]
REPOSITORY = "team/support-lora"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that may be asked, although tests are kept from hubs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with running_hub() as hub:
        yield hub


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def fetched(target: Path) -> list[str]:
    return sorted(path.name for path in target.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hub:a/b", HubSource("a/b")),
        ("hub:team/support-lora@v1.0", HubSource("team/support-lora", "v1.0")),
        ("hub:a/b@refs/pr/3", HubSource("a/b", "refs/pr/3")),
        (f"hub:a/b@{'0' * 40}", HubSource("a/b", "0" * 40)),
    ],
)
def test_what_names_an_adapter_on_a_hub(text: str, source: HubSource) -> None:
    assert parse_hub_source(text) == source
    assert str(source) == text


@pytest.mark.parametrize(
    "text",
    ["hub:", "hub:a", "a/b", "hub:a/b@", "hub:a/b/c", "hub:../b", "hub:a/..", "hub:a/b@../x", "hub:a/b c", "hub:/b"],
)
def test_what_names_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidAdapter, match="hub:OWNER/NAME@REVISION"):
        parse_hub_source(text)


def test_only_an_adapters_files_are_fetched_and_the_commit_is_told(hub: FakeHub, tmp_path: Path, target: Path) -> None:
    source = write_adapter(tmp_path / "source")
    (source / "README.md").write_text("hello")
    (source / "training_args.bin").write_bytes(b"\x80\x04.")
    (source / "generation_config.json").write_text('{"temperature": 0.5}')
    commit = hub.add(REPOSITORY, source)
    origin = HubSource(REPOSITORY).fetch(target, Limits(), endpoint=hub.url)
    assert origin == f"hub:{REPOSITORY}@{commit}"
    assert VersionNotes(source=origin).source == origin
    assert fetched(target) == [*FILES, "generation_config.json"]
    for name in FILES:
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert not any("README" in path or "training_args" in path for path in hub.asked)


def test_a_revision_is_fetched_as_it_was(hub: FakeHub, tmp_path: Path, target: Path) -> None:
    old = write_adapter(tmp_path / "old", seed=1)
    commit = hub.add(REPOSITORY, old, "v1")
    hub.add(REPOSITORY, write_adapter(tmp_path / "new", seed=2))
    assert HubSource(REPOSITORY, "v1").fetch(target, Limits(), endpoint=hub.url) == f"hub:{REPOSITORY}@{commit}"
    assert (target / FILES[1]).read_bytes() == (old / FILES[1]).read_bytes()
    assert all(commit in path for path in hub.asked if "resolve" in path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (HubSource("team/nothing"), "no such repository"),
        (HubSource(REPOSITORY, "v9"), "no such revision"),
    ],
)
def test_what_the_hub_does_not_have_is_told(
    hub: FakeHub, tmp_path: Path, target: Path, source: HubSource, says: str
) -> None:
    hub.add(REPOSITORY, write_adapter(tmp_path / "source"))
    with pytest.raises(SourceUnavailable, match=says) as refused:
        source.fetch(target, Limits(), endpoint=hub.url)
    assert (refused.value.status, refused.value.param) == (502, "source")


@pytest.mark.parametrize(
    ("present", "says"),
    [
        (["adapter_config.json", "adapter_model.bin"], "only a pickle"),
        (["adapter_config.json"], "no adapter_model.safetensors: it is no PEFT adapter"),
        (["adapter_model.safetensors", "config.json"], "no adapter_config.json"),
    ],
)
def test_a_repository_that_is_no_adapter_is_refused_before_anything_is_fetched(
    hub: FakeHub, tmp_path: Path, target: Path, present: list[str], says: str
) -> None:
    (tmp_path / "source").mkdir()
    for name in present:
        (tmp_path / "source" / name).write_text("{}")
    hub.add(REPOSITORY, tmp_path / "source")
    with pytest.raises(InvalidAdapter, match=says):
        HubSource(REPOSITORY).fetch(target, Limits(), endpoint=hub.url)
    assert fetched(target) == []


def test_a_file_beyond_the_limits_is_not_fetched(hub: FakeHub, tmp_path: Path, target: Path) -> None:
    hub.add(REPOSITORY, write_adapter(tmp_path / "source"))
    with pytest.raises(AdapterTooLarge, match="more than the 100 allowed"):
        HubSource(REPOSITORY).fetch(target, Limits(max_bytes=100), endpoint=hub.url)
    assert fetched(target) == []


def test_a_hub_that_understates_a_size_gains_nothing(hub: FakeHub, tmp_path: Path, target: Path) -> None:
    hub.add(REPOSITORY, write_adapter(tmp_path / "source"))
    hub.announced["adapter_model.safetensors"] = 1
    with pytest.raises(AdapterTooLarge):
        HubSource(REPOSITORY).fetch(target, Limits(max_bytes=100), endpoint=hub.url)


def test_a_hub_that_is_not_there_is_told_with_the_way_out(hub: FakeHub, target: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"cannot be reached .* push a directory"):
        HubSource(REPOSITORY).fetch(target, Limits(), endpoint="http://127.0.0.1:9")


def test_offline_is_told_as_such(target: Path) -> None:
    with pytest.raises(SourceUnavailable, match="HF_HUB_OFFLINE"):
        HubSource(REPOSITORY).fetch(target, Limits())


def test_a_full_disk_is_told_as_such(
    store: AdapterStore, support: AdapterName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HubSource, "fetch", full)
    with pytest.raises(StoreFull):
        publish_from_hub(store, support, HubSource(REPOSITORY))
