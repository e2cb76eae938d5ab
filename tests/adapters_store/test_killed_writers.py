"""A real process that changes a store and is killed with -9 at a random time, over and over on the same store."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters_store.store import AdapterStore
from adapters_store.verification import verify
from tests.adapters_store import killed_writer
from tests.adapters_store.hand_made import BASE, write_adapter
from tests.adapters_store.store_view import view

ROOT = Path(__file__).parents[2]
LONGEST_LIFE = 0.25


def live_and_die(store: Path, sources: Path, first: int, seconds: float) -> int:
    """Let a writer start with the change `first` and kill it after so long; the number of the change after its last."""
    command = [sys.executable, "-m", killed_writer.__name__, str(store), str(sources), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        said = process.stdout.read().splitlines()
    assert process.returncode == -signal.SIGKILL, "the writer ended by itself"
    return int(said[-1]) + 1 if said else first


def kill_writers(tmp_path: Path, kills: int) -> int:
    """Kill so many writers in turn; after each every name must be as after the last change it told of, or the next.

    The answer is how many changes were made in all.
    """
    sources = tmp_path / "sources"
    for seed in range(killed_writer.SOURCES):
        write_adapter(sources / str(seed), seed=seed)
    root, reference = tmp_path / "store", AdapterStore(tmp_path / "reference")
    for store in (AdapterStore(root), reference):
        store.describe_base(BASE)
    chance, next_change, told_of = random.Random(0), 0, 0
    for _ in range(kills):
        told = live_and_die(root, sources, next_change, chance.uniform(0, LONGEST_LIFE))
        for number in range(next_change, told):
            killed_writer.change(reference, sources, number)
        told_of += told - next_change
        next_change = told
        survivor = AdapterStore(root)
        assert [finding for finding in verify(survivor).findings if finding.is_fault] == []
        found, before = view(survivor), view(reference)
        if found == before:
            continue
        killed_writer.change(reference, sources, next_change)
        after = view(reference)
        assert all(found.get(name) in (before.get(name), after.get(name)) for name in {*found, *before, *after})
        if found != after:  # a collection goes from name to name; begun again, it does the rest
            killed_writer.change(survivor, sources, next_change)
            assert view(survivor) == after
        next_change += 1
    assert told_of >= kills, "the writers got hardly anything done, so this says little"
    return next_change


def test_a_writer_killed_at_any_time_leaves_the_store_whole(tmp_path: Path) -> None:
    assert kill_writers(tmp_path, kills=8) > 8


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_200_writers_killed_at_any_time_leave_the_store_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    changes = kill_writers(tmp_path, kills=200)
    with capsys.disabled():
        sys.stdout.write(f"\n200 kills within {changes} changes, {time.monotonic() - began:.0f} s\n")
