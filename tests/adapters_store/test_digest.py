"""The identity of a version: what it depends on, and how damage shows."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.adapter_files import open_regular
from adapters_store.digest import FileRecord, directory_digest, manifest_digest, read_verified, verify_directory
from adapters_store.errors import ChecksumMismatch, CorruptVersion, MissingFiles
from tests.adapters_store.hand_made import write_adapter

records = st.builds(
    FileRecord, st.text(min_size=1, max_size=8), st.integers(min_value=0), st.sampled_from(["00" * 32, "ff" * 32])
)


def test_the_manifest_is_as_documented() -> None:
    rows = '[["a",1,"00"],["b",2,"ff"]]'
    expected = f"sha256:{hashlib.sha256(rows.encode()).hexdigest()}"
    assert manifest_digest([FileRecord("b", 2, "ff"), FileRecord("a", 1, "00")]) == expected


@given(st.lists(records, max_size=5, unique_by=lambda record: record.name), st.randoms())
def test_the_order_of_files_does_not_matter(files: list[FileRecord], random: Random) -> None:
    shuffled = random.sample(files, len(files))
    assert manifest_digest(shuffled) == manifest_digest(files)


@given(st.lists(records, max_size=3, unique=True), st.lists(records, max_size=3, unique=True))
def test_different_manifests_have_different_digests(one: list[FileRecord], other: list[FileRecord]) -> None:
    assert (manifest_digest(one) == manifest_digest(other)) == (set(one) == set(other))


def test_only_the_adapters_own_files_count(tmp_path: Path) -> None:
    plain = write_adapter(tmp_path / "plain")
    with_readme = write_adapter(tmp_path / "other")
    (with_readme / "README.md").write_text("hello")
    assert directory_digest(plain) == directory_digest(with_readme)


def read(directory: Path, digest: str) -> dict[str, bytes]:
    files = read_verified(directory, digest, max_bytes=100_000)
    return {name: bytes(content) for name, content in files.contents.items()}


CHECKS: list[Callable[[Path, str], object]] = [verify_directory, read]
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def test_what_is_read_is_what_was_hashed(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "adapter")
    (directory / "README.md").write_text("hello")
    contents = read(directory, directory_digest(directory))
    assert contents == {name: (directory / name).read_bytes() for name in FILES}


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_adapter(tmp_path / "adapter")
    digest = directory_digest(directory)
    opened: list[str] = []

    def watched(path: Path) -> io.BufferedReader:
        opened.append(path.name)
        return open_regular(path)

    monkeypatch.setattr("adapters_store.digest.open_regular", watched)
    read(directory, digest)
    assert sorted(opened) == FILES


@pytest.mark.parametrize("file_name", FILES)
def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, file_name: str) -> None:
    directory = write_adapter(tmp_path / "adapter")
    digest = directory_digest(directory)
    os.truncate(directory / file_name, 1 << 40)
    with pytest.raises(CorruptVersion, match=f"{file_name} has {1 << 40} bytes, more than the 100000 allowed"):
        read(directory, digest)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("file_name", FILES)
def test_one_changed_byte_is_found(tmp_path: Path, file_name: str, check: Callable[[Path, str], object]) -> None:
    directory = write_adapter(tmp_path / "adapter")
    digest = directory_digest(directory)
    check(directory, digest)
    content = bytearray((directory / file_name).read_bytes())
    content[-1] ^= 1
    (directory / file_name).write_bytes(content)
    with pytest.raises(ChecksumMismatch, match="now hashes to sha256:"):
        check(directory, digest)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("file_name", FILES)
def test_a_missing_file_is_named_without_the_machines_paths(
    tmp_path: Path, file_name: str, check: Callable[[Path, str], object]
) -> None:
    directory = write_adapter(tmp_path / "adapter")
    digest = directory_digest(directory)
    (directory / file_name).unlink()
    with pytest.raises(MissingFiles, match=f"{file_name} is missing") as damage:
        check(directory, digest)
    assert str(tmp_path) not in damage.value.message


@pytest.mark.parametrize("check", CHECKS)
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path, check: Callable[[Path, str], object]) -> None:
    directory = write_adapter(tmp_path / "adapter")
    digest = directory_digest(directory)
    weights = directory / "adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingFiles) as damage:
        check(directory, digest)
    assert str(tmp_path) not in damage.value.message
