"""What is taken from a directory of unknown origin, and what makes it refused."""

import os
from pathlib import Path

import pytest

from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.source_directory import copy_adapter
from tests.adapters_store.hand_made import write_adapter

FILES = ["adapter_config.json", "adapter_model.safetensors"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_only_the_adapters_files_are_copied_and_read_only(tmp_path: Path, target: Path) -> None:
    source = write_adapter(tmp_path / "source")
    (source / "README.md").write_text("hello")
    (source / "tokenizer.json").write_text("{}")
    (source / "checkpoint-10").mkdir()
    copy_adapter(source, target, Limits())
    assert sorted(path.name for path in target.iterdir()) == FILES
    for name in FILES:
        assert (target / name).read_bytes() == (source / name).read_bytes()
        assert (target / name).stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.BIN", "optimizer.pt", "rng_state.pth", "x.pkl"])
def test_a_pickle_is_refused_with_the_fix(tmp_path: Path, target: Path, name: str) -> None:
    source = write_adapter(tmp_path / "source")
    (source / name).write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidAdapter, match="safe_serialization=True") as refusal:
        copy_adapter(source, target, Limits())
    assert refusal.value.param == name


@pytest.mark.parametrize("name", [*FILES, "README.md"])
def test_a_symbolic_link_is_refused(tmp_path: Path, target: Path, name: str) -> None:
    source = write_adapter(tmp_path / "source")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    with pytest.raises(InvalidAdapter, match="symbolic link") as refusal:
        copy_adapter(source, target, Limits())
    assert refusal.value.param == name
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, target: Path, name: str) -> None:
    source = write_adapter(tmp_path / "source")
    (source / name).unlink()
    with pytest.raises(InvalidAdapter, match=f"there is no {name}") as refusal:
        copy_adapter(source, target, Limits())
    assert refusal.value.param == name


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_or_a_folder_in_a_files_place_is_refused_at_once(tmp_path: Path, target: Path, name: str) -> None:
    source = write_adapter(tmp_path / "source")
    (source / name).unlink()
    os.mkfifo(source / name)
    with pytest.raises(InvalidAdapter, match="not a regular file"):
        copy_adapter(source, target, Limits())
    (source / name).unlink()
    (source / name).mkdir()
    for left in target.iterdir():
        left.unlink()
    with pytest.raises(InvalidAdapter, match="not a regular file"):
        copy_adapter(source, target, Limits())


@pytest.mark.parametrize("source", ["absent", "file"])
def test_a_source_that_is_no_directory_is_refused(tmp_path: Path, target: Path, source: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidAdapter, match="is not a directory"):
        copy_adapter(tmp_path / source, target, Limits())


def test_limits_hold_while_copying(tmp_path: Path, target: Path) -> None:
    source = write_adapter(tmp_path / "source")
    size = (source / "adapter_model.safetensors").stat().st_size
    with pytest.raises(AdapterTooLarge, match=f"larger than the {size - 1} bytes"):
        copy_adapter(source, target, Limits(max_bytes=size - 1))
    for left in target.iterdir():
        left.unlink()
    with pytest.raises(AdapterTooLarge, match=r"adapter_config\.json is larger than the 10 bytes"):
        copy_adapter(source, target, Limits(max_config_bytes=10))
