"""Every change of the store, cut off after each of its file operations, and with a disk that fills up at each.

After a restart each name is as it was before the change or as it is after it, every version that resolves is whole,
and a verification finds no fault. A change that was acknowledged survives a power cut.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_store.collection import CollectionRules, collect
from adapters_store.errors import StoreFull
from adapters_store.file_operations import OS_FILES, FileOperations
from adapters_store.lease import Lease
from adapters_store.names import AdapterRef, parse_adapter_name
from adapters_store.repair import repair
from adapters_store.store import AdapterStore
from adapters_store.verification import verify
from adapters_store.version_notes import VersionNotes
from tests.adapters_store.hand_made import BASE, write_adapter
from tests.adapters_store.lossy_disk import Cut, FullDisk, LossyDisk
from tests.adapters_store.store_view import View, view

SUPPORT, SALES, FRESH = map(parse_adapter_name, ("acme/support", "sales", "fresh"))
EVERYTHING = CollectionRules(grace=0.0, depth=0)

Change = Callable[[AdapterStore, list[Path], list[str]], object]

CHANGES: dict[str, Change] = {
    "publish to a name that is there": lambda store, sources, _: store.publish(SUPPORT, sources[4]),
    "publish to a new name": lambda store, sources, _: store.publish(FRESH, sources[4]),
    "publish what another name has": lambda store, sources, _: store.publish(FRESH, sources[0]),
    "publish what was retired": lambda store, sources, _: store.publish(SUPPORT, sources[1], alias="canary"),
    "promote": lambda store, _, digests: store.promote(AdapterRef(SUPPORT, digest=digests[2])),
    "roll back": lambda store, *_: store.rollback(SUPPORT, "latest"),
    "unalias": lambda store, *_: store.unalias(SUPPORT, "prod"),
    "retire": lambda store, _, digests: store.retire(SUPPORT, digests[2]),
    "restore": lambda store, _, digests: store.restore(SUPPORT, digests[1]),
    "annotate": lambda store, *_: store.annotate(AdapterRef(SUPPORT), VersionNotes(tags=("good",))),
    "delete": lambda store, *_: store.delete(SUPPORT),
    "collect": lambda store, *_: collect(store, EVERYTHING, dry=False),
    "lease": lambda store, _, digests: Lease(store.leases, window=60).hold(digests[0]),
    "describe the base": lambda store, *_: store.describe_base(BASE),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sources")
    return [write_adapter(folder / str(seed), seed=seed) for seed in range(5)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, sources: list[Path]) -> tuple[Path, list[str]]:
    """A store with some life behind it, and the digests of the first four sources."""
    root = tmp_path_factory.mktemp("before") / "store"
    store = AdapterStore(root)
    store.describe_base(BASE)
    digests = [store.publish(SUPPORT, source).version.digest for source in sources[:4]]
    store.promote(AdapterRef(SUPPORT, digest=digests[0]))
    store.retire(SUPPORT, digests[1])
    store.publish(SALES, sources[0])
    return root, digests


class Trial:
    """One change of a store, done over and over on copies of it."""

    def __init__(self, root: Path, folder: Path, change: Callable[[AdapterStore], object]) -> None:
        self._before = root
        self.root = folder / "trial"
        self._change = change
        self.old = view(AdapterStore(root))
        self.new = view(self.run(OS_FILES))

    def copy(self) -> Path:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._before, self.root)
        return self.root

    def run(self, files: FileOperations) -> AdapterStore:
        """The change on a copy, from the opening of the store."""
        store = AdapterStore(self.root if isinstance(files, LossyDisk) else self.copy(), files=files)
        self._change(store)
        return store

    def cut(self, operations: int | None) -> LossyDisk:
        """The change on a copy, cut off after so many operations."""
        disk = LossyDisk(self.copy(), operations)
        try:
            self.run(disk)
        except Cut:
            assert disk.done == operations
        return disk

    def check(self, store: AdapterStore, *, is_done: bool = False) -> None:
        """Each name is as before or as after, and the store is whole."""
        found = view(store)
        if is_done:
            assert found == self.new
        for name in {*self.old, *self.new, *found}:
            states: list[View | None] = [self.old.get(name), self.new.get(name)]
            assert found.get(name) in states
        assert [finding for finding in verify(store).findings if finding.is_fault] == []


@pytest.fixture(params=CHANGES.values(), ids=list(CHANGES))
def trial(request: pytest.FixtureRequest, before: tuple[Path, list[str]], sources: list[Path], tmp_path: Path) -> Trial:
    root, digests = before
    return Trial(root, tmp_path, lambda store: request.param(store, sources, digests))


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The trials below would find nothing on a disk that forgets nothing."""
    root = tmp_path / "root"
    root.mkdir()
    disk = LossyDisk(root)
    for name in ("synced", "unsynced"):
        descriptor = disk.create(root / f"{name}.tmp")
        disk.write(descriptor, b"content")
        if name == "synced":
            disk.sync(descriptor)
        os.close(descriptor)
        disk.rename(root / f"{name}.tmp", root / name)
    nothing, entries, all_, _ = disk.images(tmp_path / "images", random.Random(0), random_images=1)
    assert list(nothing.iterdir()) == []
    assert {path.name: path.read_bytes() for path in entries.iterdir()} == {"synced": b"content", "unsynced": b""}
    assert (all_ / "unsynced").read_bytes() == b"content"
    disk.sync_directory(root)
    lost, *_ = disk.images(tmp_path / "later", random.Random(0), random_images=0)
    assert {path.name: path.read_bytes() for path in lost.iterdir()} == {"synced": b"content", "unsynced": b""}


def test_a_store_that_did_not_sync_would_be_found_out(
    before: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, digests = before
    trial = Trial(root, tmp_path, lambda store: store.promote(AdapterRef(SUPPORT, digest=digests[2])))
    monkeypatch.setattr(LossyDisk, "sync", lambda *_: None)
    disk = trial.cut(None)
    _, entries, _ = disk.images(tmp_path / "images", random.Random(0), random_images=0)
    with pytest.raises(AssertionError):
        trial.check(AdapterStore(entries))


def test_a_change_cut_off_anywhere_is_done_or_not(trial: Trial, tmp_path: Path) -> None:
    chance = random.Random(0)
    operations = trial.cut(None).done
    assert operations > 2
    for number in range(operations + 1):
        disk = trial.cut(number)
        images = tmp_path / "images"
        for image in disk.images(images, chance, random_images=1):
            trial.check(AdapterStore(image), is_done=number == operations)
        shutil.rmtree(images)


@pytest.mark.parametrize("stays_full", [False, True])
def test_a_disk_that_fills_up_anywhere_leaves_the_store_whole(trial: Trial, stays_full: bool) -> None:
    number = 0
    while True:
        disk = FullDisk(number, stays_full=stays_full)
        try:
            store = trial.run(disk)
        except StoreFull:
            store = AdapterStore(trial.root)
        if not disk.was_full:
            break
        trial.check(AdapterStore(store.root))
        number += 1
    assert number > 0
    trial.check(store, is_done=True)


def test_a_repair_cut_off_anywhere_is_finished_by_the_next(before: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, damaged = before[0], tmp_path / "damaged"
    shutil.copytree(root, damaged)
    store = AdapterStore(damaged)
    versions = {str(entry.name): {v.digest for v in store.get(entry.name).versions} for entry in store.list()}
    for document in (damaged / "names").glob("*.json"):
        document.write_bytes(document.read_bytes()[:80])
    (damaged / "names" / "stray").write_text("x")
    (store.versions.path_of(before[1][1]) / "version.json").write_text("")
    chance = random.Random(0)
    number = 0
    is_cut = True
    while is_cut:
        trial = tmp_path / "trial"
        shutil.copytree(damaged, trial)
        disk = LossyDisk(trial, number)
        try:
            mended = AdapterStore(trial, files=disk)
            repair(mended, verify(mended).findings)
            is_cut = False
        except Cut:
            number += 1
        for image in disk.images(tmp_path / "images", chance, random_images=1):
            survivor = AdapterStore(image)
            repair(survivor, verify(survivor).findings)
            assert verify(survivor).is_whole
            # A version whose own record is torn as well comes back only by publishing it again.
            for name, digests in versions.items():
                found = {v.digest for v in survivor.get(parse_adapter_name(name)).versions}
                assert found >= digests - {before[1][1]}
        shutil.rmtree(tmp_path / "images")
        shutil.rmtree(trial)
    assert number > 10
