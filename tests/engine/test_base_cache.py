"""Entries of the cache are complete or absent, whoever dies or races."""

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.base_cache import CacheEntry, fingerprint, locked
from server.engine.base_progress import SilentProgress

QUIET = SilentProgress()


def build(scratch: Path) -> Path:
    """A checkpoint, and an intermediate copy beside it."""
    (scratch / "dense").mkdir()
    (scratch / "dense" / "big.safetensors").write_bytes(bytes(1000))
    (scratch / "final").mkdir()
    (scratch / "final" / "config.json").write_text("{}")
    return scratch / "final"


def unexpected(scratch: Path) -> Path:
    raise AssertionError(f"built again in {scratch}")


def die_while_building(directory: Path) -> None:
    """Run in a process of its own, which is killed inside the build."""

    def stuck(scratch: Path) -> Path:
        build(scratch)
        (directory.parent / "started").touch()
        time.sleep(60)
        return scratch

    CacheEntry(directory).fill(stuck, QUIET)


def test_an_entry_is_built_once_and_without_its_intermediates(tmp_path: Path) -> None:
    entry = CacheEntry(tmp_path / "bases" / "one")
    assert entry.fill(build, QUIET) == entry.directory
    assert entry.complete
    assert entry.fill(unexpected, QUIET) == entry.directory
    assert sorted(path.name for path in entry.directory.parent.iterdir()) == ["one", "one.lock"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Path:
        build(scratch)
        raise OSError("disk full")

    entry = CacheEntry(tmp_path / "one")
    with pytest.raises(OSError, match="disk full"):
        entry.fill(fail, QUIET)
    assert not entry.complete
    assert [path.name for path in tmp_path.iterdir()] == ["one.lock"]
    assert entry.fill(build, QUIET).is_dir()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    entry = CacheEntry(tmp_path / "one")
    process = multiprocessing.get_context("fork").Process(target=die_while_building, args=(entry.directory,))
    process.start()
    while not (tmp_path / "started").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert len(list(tmp_path.glob(".one.partial-*"))) == 1
    entry.fill(build, QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "one.lock", "started"]


def test_two_at_once_build_once(tmp_path: Path) -> None:
    entry = CacheEntry(tmp_path / "one")
    built: list[Path] = []

    def slow(scratch: Path) -> Path:
        built.append(scratch)
        time.sleep(0.3)
        return build(scratch)

    threads = [threading.Thread(target=entry.fill, args=(slow, QUIET)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_a_lock_is_free_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "a.lock", QUIET):
            raise ZeroDivisionError


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
)
def test_fingerprints_differ_exactly_where_their_parts_do(one: dict[str, object], other: dict[str, object]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert fingerprint(one) == fingerprint(dict(reversed(one.items())))
