"""A disk that may be cut off after any operation, and forgets what was not synced.

Every operation but a sync is really done, and noted in a model beside it: which bytes of a file are durable, and which
entries of a folder. What a power cut may leave is then written out as a folder of its own.
"""

import errno
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapters_store.file_operations import FileOperations


class Cut(BaseException):
    """The process dies here; nothing of it runs any more."""


@dataclass(eq=False)
class _File:
    durable: bytes = b""
    current: bytes = b""


@dataclass(eq=False)
class _Folder:
    """`pending` are changes of entries in order; those of one change come together or not at all."""

    durable: dict[str, "_File | _Folder"] = field(default_factory=dict)
    current: dict[str, "_File | _Folder"] = field(default_factory=dict)
    pending: list[Mapping[str, "_File | _Folder | None"]] = field(default_factory=list)

    def change(self, entries: Mapping[str, "_File | _Folder | None"]) -> None:
        self.pending.append(entries)
        _apply(self.current, entries)

    def sync(self) -> None:
        self.durable, self.pending = dict(self.current), []


def _apply(entries: dict[str, "_File | _Folder"], change: Mapping[str, "_File | _Folder | None"]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class LossyDisk(FileOperations):
    """Operations below `root`, the first `operations` of which are done; the next is the last, and begun at most."""

    def __init__(self, root: Path, operations: int | None = None) -> None:
        self.done = 0
        self._root = root
        self._limit = operations
        self._tree = _load(root)
        self._open: dict[int, _File] = {}

    def images(self, folder: Path, chance: random.Random, random_images: int) -> Iterator[Path]:
        """Folders with what may be left: all that was not synced lost, or its data alone, or none, or anything."""
        ways = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), *((0.5, 0.5) for _ in range(random_images))]
        for number, (entries, data) in enumerate(ways):
            image = folder / f"image-{number}"
            _write(self._tree, image, chance, entries, data)
            yield image

    def create(self, path: Path, mode: int = 0o644) -> int:
        self._count()
        descriptor = super().create(path, mode)
        self._open[descriptor] = file = _File()
        self._folder(path.parent).change({path.name: file})
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        is_last = self.done == self._limit
        if is_last and len(data) > 1:
            self._append(descriptor, super().write(descriptor, data[: len(data) // 2]), data)
        self._count()
        return self._append(descriptor, super().write(descriptor, data), data)

    def _append(self, descriptor: int, written: int, data: bytes | memoryview) -> int:
        self._open[descriptor].current += bytes(data[:written])
        return written

    def sync(self, descriptor: int) -> None:
        self._count()
        file = self._open[descriptor]
        file.durable = file.current

    def open_lock(self, path: Path) -> int:
        self._count()
        descriptor = super().open_lock(path)
        folder = self._folder(path.parent)
        if path.name not in folder.current:
            folder.change({path.name: _File()})
        return descriptor

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)
        before, after = self._folder(source.parent), self._folder(target.parent)
        node = before.current[source.name]
        if before is after:
            before.change({source.name: None, target.name: node})
        else:
            after.change({target.name: node})
            before.change({source.name: None})

    def remove_file(self, path: Path) -> None:
        self._count()
        super().remove_file(path)
        self._folder(path.parent).change({path.name: None})

    def make_directory(self, path: Path) -> None:
        self._count()
        super().make_directory(path)
        self._folder(path.parent).change({path.name: _Folder()})

    def remove_directory(self, path: Path) -> None:
        self._count()
        super().remove_directory(path)
        self._folder(path.parent).change({path.name: None})

    def change_mode(self, path: Path, mode: int) -> None:
        self._count()
        super().change_mode(path, mode)

    def touch(self, path: Path) -> None:
        self._count()
        super().touch(path)

    def sync_directory(self, path: Path) -> None:
        self._count()
        if path.is_relative_to(self._root):
            self._folder(path).sync()

    def _count(self) -> None:
        if self.done == self._limit:
            raise Cut
        self.done += 1

    def _folder(self, path: Path) -> _Folder:
        folder = self._tree
        for part in path.relative_to(self._root).parts:
            child = folder.current[part]
            assert isinstance(child, _Folder)
            folder = child
        return folder


class FullDisk(FileOperations):
    """A disk whose operation number `first`, counted from 0, is refused for want of space; the rest is done.

    With `stays_full`, so is whatever needs space from there on.
    """

    def __init__(self, first: int, *, stays_full: bool) -> None:
        self.done = 0
        self._first = first
        self._stays_full = stays_full

    @property
    def was_full(self) -> bool:
        return self.done > self._first

    def create(self, path: Path, mode: int = 0o644) -> int:
        self._need_space()
        return super().create(path, mode)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.done == self._first and len(data) > 1:
            super().write(descriptor, data[: len(data) // 2])
        self._need_space()
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._need_space()

    def open_lock(self, path: Path) -> int:
        if not path.exists():
            self._need_space()
        return super().open_lock(path)

    def rename(self, source: Path, target: Path) -> None:
        self._need_space()
        super().rename(source, target)

    def make_directory(self, path: Path) -> None:
        self._need_space()
        super().make_directory(path)

    def sync_directory(self, path: Path) -> None:
        self._need_space()

    def _need_space(self) -> None:
        number, self.done = self.done, self.done + 1
        if number == self._first or (self._stays_full and number > self._first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _load(path: Path) -> _Folder:
    """All that lies there, durable."""
    entries: dict[str, _File | _Folder] = {}
    for child in path.iterdir() if path.exists() else ():
        if child.is_dir():
            entries[child.name] = _load(child)
        else:
            content = child.read_bytes()
            entries[child.name] = _File(content, content)
    return _Folder(durable=dict(entries), current=entries)


def _write(folder: _Folder, path: Path, chance: random.Random, entries: float, data: float) -> None:
    """Write what is left of a folder: each pending change with probability `entries`, unsynced data with `data`."""
    path.mkdir(parents=True)
    left = dict(folder.durable)
    for change in folder.pending:
        if chance.random() < entries:
            _apply(left, change)
    for name, node in left.items():
        if isinstance(node, _Folder):
            _write(node, path / name, chance, entries, data)
        else:
            content = node.durable
            if chance.random() < data:
                rest = node.current[len(content) :]
                content += rest if data == 1.0 else rest[: chance.randint(0, len(rest))]
            (path / name).write_bytes(content)
