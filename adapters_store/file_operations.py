"""Every operation by which the store changes files, in one place, so that a test can cut them off one by one.

What the code above it builds on, and what a fault-injecting subclass may break:

- Each method is one system call that changes something. A crash comes between two of them, or within `write`,
  which may write a part of its bytes and says how many.
- Nothing is durable by itself. The bytes of a file are after `sync` of its descriptor; that an entry was created,
  renamed or removed is after `sync_directory` of its folder (of both folders, for a move between two).
- `rename` is atomic: whoever looks sees the old entry or the new one. It does not wait for the bytes of the file,
  so a file is synced before it is renamed to where it is read.
- Operations on different entries may reach the disk in any order, unless a sync lies between them.

Reading goes past this layer: a reader changes nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final


class FileOperations:
    """The operating system's own operations. Every method raises OSError when the system refuses.

    Holds no state: one instance may be used by all threads.
    """

    def create(self, path: Path, mode: int = 0o644) -> int:
        """Create an empty file that was not there and open it for writing; the caller closes the descriptor.

        Raises:
            FileExistsError: there is such an entry, a symbolic link included.
        """
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write from the start of `data`; the answer is how many bytes were written, perhaps not all."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make the bytes of an open file durable."""
        os.fsync(descriptor)

    def open_lock(self, path: Path) -> int:
        """Open a lock file, created when absent; the caller closes the descriptor. Nothing is written to it."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file or folder on one disk, over a file that is at `target`."""
        source.replace(target)

    def remove_file(self, path: Path) -> None:
        """Remove a file or symbolic link.

        Raises:
            FileNotFoundError: it is not there.
        """
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Create a folder.

        Raises:
            FileExistsError: there is such an entry.
        """
        path.mkdir()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def change_mode(self, path: Path, mode: int) -> None:
        """Set the permissions of a file or folder."""
        path.chmod(mode)

    def touch(self, path: Path) -> None:
        """Set the time of a file or folder to now."""
        os.utime(path)

    def sync_directory(self, path: Path) -> None:
        """Make the entries of a folder (files created, renamed or removed in it) durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


OS_FILES: Final = FileOperations()


def write_new_file(path: Path, chunks: Iterable[bytes], files: FileOperations = OS_FILES, mode: int = 0o644) -> None:
    """Create a file, write all chunks and sync it. Its entry in the folder is not durable yet.

    Raises:
        OSError: the disk refused; a part of the file may be there.
    """
    descriptor = files.create(path, mode)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[files.write(descriptor, rest) :]
        files.sync(descriptor)
    finally:
        os.close(descriptor)


def make_durable_directories(root: Path, names: Iterable[str], files: FileOperations = OS_FILES) -> None:
    """Create a folder, with its parents, and folders in it, those that are absent; all are durable afterwards.

    Raises:
        OSError: the disk refused, or a file has one of the names.
    """
    _make_with_parents(root, files)
    for name in names:
        _make_with_parents(root / name, files)
    # Also where all were there: whoever created them may have died before this.
    files.sync_directory(root)


def _make_with_parents(path: Path, files: FileOperations) -> None:
    if path.is_dir():
        return
    _make_with_parents(path.parent, files)
    try:
        files.make_directory(path)
    except FileExistsError:
        if not path.is_dir():  # another process was not faster: it is a file
            raise
    files.sync_directory(path.parent)


def remove_tree(path: Path, files: FileOperations = OS_FILES) -> None:
    """Remove a file, a symbolic link, or a folder with all that is in it; links are not followed.

    Raises:
        OSError: something could not be removed; what came before it is gone.
    """
    if path.is_symlink() or not path.is_dir():
        files.remove_file(path)
        return
    for entry in sorted(path.iterdir()):
        remove_tree(entry, files)
    files.remove_directory(path)
