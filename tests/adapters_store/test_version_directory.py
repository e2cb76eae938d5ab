"""The folder where versions are prepared: what killed processes left there goes, what is in use stays."""

import os
import time
from pathlib import Path

import pytest

from adapters_store.names import AdapterName
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import write_adapter

HOUR = 3600.0


def left_behind(path: Path, hours: float) -> Path:
    """A half-prepared version, last changed some hours ago."""
    write_adapter(path)
    (path / "adapter_config.json").chmod(0o444)
    changed = time.time() - hours * HOUR
    os.utime(path, (changed, changed))
    return path


def test_publishing_removes_what_was_left_for_a_day(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    staging = store.root / "tmp"
    left_behind(staging / "folder", 25)
    (staging / "file").write_text("torn")
    (staging / "link").symlink_to(left_behind(tmp_path / "elsewhere", 25))
    for name in ("file", "link"):
        os.utime(staging / name, (0, 0), follow_symlinks=False)
    in_use = left_behind(staging / "in-use", 23)
    store.publish(support, write_adapter(tmp_path / "source"))
    assert list(staging.iterdir()) == [in_use]
    assert len(list(in_use.iterdir())) == 2
    assert (tmp_path / "elsewhere" / "adapter_config.json").is_file()


def test_what_cannot_be_removed_hinders_no_publisher(
    store: AdapterStore, support: AdapterName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = left_behind(store.root / "tmp" / "stuck", 25)
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert store.publish(support, write_adapter(tmp_path / "source")).created
    assert stuck.is_dir()
