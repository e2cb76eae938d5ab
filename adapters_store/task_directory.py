"""The folder of task routes: one file a task, named by the SHA-256 of its name, so no name becomes a path.

Every server over a store follows its tasks: a change by another process is seen by the next read.
"""

import builtins
import difflib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import CorruptTask, InvalidName, InvalidTask, TaskConflict, UnknownTask
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import OS_FILES, FileOperations, make_durable_directories
from adapters_store.names import TaskName
from adapters_store.task_document import TaskDocument, decode_document, encode_document, new_document
from adapters_store.task_rule import TaskRule

TASKS_FOLDER: Final = "tasks"
"""The folder of a store in which its tasks are kept."""

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
LOCK_SECONDS: Final = 10.0

_DOCUMENT_FILE = re.compile(r"[0-9a-f]{64}\.json")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _FileState:
    """What tells one content of a path from the next: each is written to a new file and renamed."""

    modified_ns: int
    inode: int
    size: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "_FileState":
        return cls(stat.st_mtime_ns, stat.st_ino, stat.st_size)


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A task that was set. `before` is None where it is new, and `after` itself where nothing was to change."""

    before: TaskDocument | None
    after: TaskDocument

    @property
    def created(self) -> bool:
        """Whether the task is new."""
        return self.before is None


class TaskDirectory:
    """Reads and changes task routes; parsed ones are kept until their file changes.

    Safe to use from several threads and processes: files are replaced whole, and changed under a lock. The folder
    is created by the first change.
    """

    def __init__(self, path: Path, files: FileOperations = OS_FILES) -> None:
        self._path = path
        self._files = files
        self._parsed: dict[str, tuple[_FileState, TaskDocument]] = {}

    @classmethod
    def of_store(cls, root: Path, files: FileOperations = OS_FILES) -> "TaskDirectory":
        """The tasks of the store whose directory is `root`."""
        return cls(root / TASKS_FOLDER, files)

    def get(self, name: TaskName) -> TaskDocument:
        """The task as it is on disk now. Costs one stat when unchanged.

        Raises:
            UnknownTask: there is none of this name; the message suggests what may have been meant.
            CorruptTask: its file is damaged.
        """
        document = self._read(_file_name(name))
        if document is None:
            known = [other.name for other in self.list()]
            close = " or ".join(repr(match) for match in difflib.get_close_matches(name.name, known, n=2))
            advice = (
                f"did you mean {close}?" if close else "`switchyard tasks list` or GET /v1/tasks has those there are"
            )
            raise UnknownTask(f"there is no task {name.name!r}; {advice}")
        return document

    @property
    def path(self) -> Path:
        """The folder; it need not be there."""
        return self._path

    def read_file(self, file_name: str) -> TaskDocument | None:
        """The task in one file of the folder; None where the file is gone.

        Raises:
            CorruptTask: it is damaged.
        """
        return self._read(file_name)

    def read_all_or_fail(self) -> builtins.list[TaskDocument]:
        """Every task, for whoever must know all of them.

        Raises:
            CorruptTask: one is damaged.
        """
        documents = (self._read(path.name) for path in self._document_files())
        return [document for document in documents if document is not None]

    def list(self) -> builtins.list[TaskDocument]:
        """Every task, in order of the names; a damaged one is logged and left out, so that it hides no other."""
        documents = []
        for path in self._document_files():
            try:
                document = self._read(path.name)
            except CorruptTask as error:
                _LOG.warning("%s", error)
                continue
            if document is not None:
                documents.append(document)
        return sorted(documents, key=lambda document: document.name)

    @tells_full_disk
    def set(self, name: TaskName, rule: TaskRule, *, expect: int | None = None) -> TaskChange:
        """Put a rule in force. Nothing is recorded where it is in force already.

        `expect` is the revision that the caller believes to be in force; 0 says that there is no such task.

        Raises:
            TaskConflict: another revision than `expect` is in force; nothing was changed.
            CorruptTask: its file is damaged.
            StoreBusy: another process keeps the task locked; nothing was changed.
            StoreFull: the disk is full; nothing was changed.
        """
        with self._lock(name):
            before = self._read(_file_name(name))
            _check_expected(name, before, expect)
            if before is None:
                after = new_document(name, rule, _now())
            elif before.rule == rule:
                return TaskChange(before, before)
            else:
                after = before.with_rule(rule, _now())
            self._write(after)
        return TaskChange(before, after)

    @tells_full_disk
    def rollback(self, name: TaskName, *, to: int | None = None, expect: int | None = None) -> TaskDocument:
        """Put the rule before the last change in force again, or that of the revision `to`.

        Raises:
            UnknownTask: there is no such task or revision.
            TaskConflict, CorruptTask, StoreBusy, StoreFull: as for `set`.
        """
        with self._changing(name) as before:
            _check_expected(name, before, expect)
            after = before.rolled_back(_now(), to)
            self._write(after)
        return after

    @tells_full_disk
    def delete(self, name: TaskName, *, expect: int | None = None) -> TaskDocument:
        """Remove a task with its history.

        Raises:
            UnknownTask: there is no such task.
            TaskConflict, CorruptTask, StoreBusy, StoreFull: as for `set`.
        """
        with self._changing(name) as document:
            _check_expected(name, document, expect)
            with suppress(FileNotFoundError):
                self._files.remove_file(self._path / _file_name(name))
            self._files.sync_directory(self._path)
        return document

    @contextmanager
    def _changing(self, name: TaskName) -> Iterator[TaskDocument]:
        """A task with other writers kept out. One that is not there gets no lock file."""
        self.get(name)
        with self._lock(name):
            yield self.get(name)

    @contextmanager
    def _lock(self, name: TaskName) -> Iterator[None]:
        make_durable_directories(self._path, (), self._files)
        path, subject = self._path / f"{_stem(name)}.lock", f"task {name.name!r}"
        with exclusive_lock(path, subject, seconds=LOCK_SECONDS, files=self._files):
            yield

    def _write(self, document: TaskDocument) -> None:
        replace_file(self._path / _file_name(document.task_name), encode_document(document), self._files)

    def _document_files(self) -> builtins.list[Path]:
        try:
            return [path for path in self._path.iterdir() if _DOCUMENT_FILE.fullmatch(path.name)]
        except FileNotFoundError:
            return []

    def _read(self, file_name: str) -> TaskDocument | None:
        path = self._path / file_name
        try:
            state = _FileState.of(path.stat(follow_symlinks=False))
            known = self._parsed.get(file_name)
            if known is not None and known[0] == state:
                return known[1]
            document = decode_document(read_limited(path, MAX_DOCUMENT_BYTES))
            if _file_name(document.task_name) != file_name:
                raise ValueError(f"it holds the task {document.name}")
        except FileNotFoundError:
            self._parsed.pop(file_name, None)
            return None
        except (ValueError, InvalidName, InvalidTask, OSError, RecursionError) as error:
            # An OSError's text would name the machine's own paths.
            reason = error.strerror if isinstance(error, OSError) else error
            raise CorruptTask(
                f"{self._path.name}/{file_name} in the store is not the file of a task ({reason}); "
                "restore it, or remove it and set the task again"
            ) from error
        # A file replaced between the stat and the read is stored under the older state, and read again next time.
        self._parsed[file_name] = (state, document)
        return document


def _check_expected(name: TaskName, document: TaskDocument | None, expect: int | None) -> None:
    current = 0 if document is None else document.current.number
    if expect is not None and expect != current:
        is_now = f"is at revision {current}" if document is not None else "does not exist"
        raise TaskConflict(
            f"task {name.name!r} {is_now}, and not at revision {expect}: read it again, then decide", param="expect"
        )


def _stem(name: TaskName) -> str:
    return hashlib.sha256(name.name.encode()).hexdigest()


def _file_name(name: TaskName) -> str:
    return f"{_stem(name)}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
