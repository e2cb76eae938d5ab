"""The folder of name documents: one file a name, named by the SHA-256 of the name, so no name becomes a path."""

import hashlib
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.errors import CorruptVersion, InvalidName, StoreFull
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import OS_FILES, FileOperations
from adapters_store.name_document import NameDocument, decode_document, decode_name, encode_document
from adapters_store.names import AdapterName

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
LOCK_SECONDS: Final = 10.0
DOCUMENT_FILE: Final = re.compile(r"[0-9a-f]{64}\.json")

# Bytes of the files whose parsed documents are kept; parsed, they take about three times as much.
_CACHED_BYTES: Final = 128 * 1024 * 1024
# A folder that changed this lately may change again within one tick of the file system's clock.
_SETTLED_NS: Final = 1_000_000_000
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


class _DocumentCache:
    """Parsed documents by file, with the state that the file had; those asked for longest ago go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[_FileState, NameDocument]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file_name: str, state: _FileState) -> NameDocument | None:
        with self._lock:
            known = self._entries.get(file_name)
            if known is None or known[0] != state:
                return None
            self._entries.move_to_end(file_name)
            return known[1]

    def put(self, file_name: str, state: _FileState, document: NameDocument) -> None:
        with self._lock:
            self._forget(file_name)
            self._entries[file_name] = (state, document)
            self._bytes += state.size
            while self._bytes > self._max_bytes and len(self._entries) > 1:
                self._forget(next(iter(self._entries)))

    def forget(self, file_name: str) -> None:
        with self._lock:
            self._forget(file_name)

    def _forget(self, file_name: str) -> None:
        known = self._entries.pop(file_name, None)
        if known is not None:
            self._bytes -= known[0].size


@dataclass(frozen=True, slots=True)
class _Listing:
    """The names that there were when the folder had changed last at `changed_ns`."""

    changed_ns: int = -1
    is_settled: bool = False
    names: tuple[AdapterName, ...] = ()


class NameDirectory:
    """Reads and writes name documents; parsed ones are kept until their file changes.

    Safe to use from several threads and processes: documents are replaced whole, and changed under `lock`.
    """

    def __init__(self, path: Path, files: FileOperations = OS_FILES) -> None:
        self._path = path
        self._files = files
        self._parsed = _DocumentCache(_CACHED_BYTES)
        # The name that a file is of never changes: the file is named by its hash.
        self._name_of: dict[str, AdapterName] = {}
        self._listing = _Listing()

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path

    def read(self, name: AdapterName) -> NameDocument | None:
        """The document of a name as it is on disk now; None where there is none. Costs one stat when unchanged.

        Raises:
            CorruptVersion: the file is not the document of this name.
        """
        return self.read_file(file_name_of(name))

    def read_all(self, names: Iterable[AdapterName] | None = None) -> Iterator[NameDocument]:
        """The documents of `names`, or all in order of their names.

        A damaged one is logged and left out, so that it hides no other.
        """
        for name in self.names() if names is None else names:
            try:
                document = self.read(name)
            except CorruptVersion as error:
                _LOG.warning("%s", error)
                continue
            if document is not None:
                yield document

    def read_all_or_fail(self) -> Iterator[NameDocument]:
        """Every document, for a decision that must know them all.

        Raises:
            CorruptVersion: one is damaged.
        """
        for file_name in self.file_names():
            document = self.read_file(file_name)
            if document is not None:
                yield document

    def names(self) -> tuple[AdapterName, ...]:
        """The names there are, in order. Costs one stat while the folder is unchanged, else a listing of it."""
        changed, now = self._path.stat().st_mtime_ns, time.time_ns()
        listing = self._listing
        if listing.changed_ns == changed and listing.is_settled:
            return listing.names
        found = sorted(
            (name for name in map(self._name_of_file, self.file_names()) if name is not None),
            key=str,
        )
        self._listing = _Listing(changed, now - changed > _SETTLED_NS, tuple(found))
        return self._listing.names

    def file_names(self) -> list[str]:
        """The files that are named as documents are, in order."""
        with os.scandir(self._path) as entries:
            return sorted(entry.name for entry in entries if DOCUMENT_FILE.fullmatch(entry.name))

    @contextmanager
    def lock(self, name: AdapterName) -> Iterator[None]:
        """Keep other writers of a name out, in this process and in others. Readers go on.

        Raises:
            StoreBusy: another writer holds the name for too long.
        """
        path, subject = self._path / f"{_stem(name)}.lock", f"adapter {str(name)!r}"
        with exclusive_lock(path, subject, seconds=LOCK_SECONDS, files=self._files):
            yield

    def write(self, document: NameDocument) -> None:
        """Replace a document atomically, as its next revision and in today's format. The caller holds the lock.

        Raises:
            StoreFull: it is larger than what is read again; the document on disk is as it was.
            CorruptVersion: nobody could read it again; likewise.
        """
        text = encode_document(msgspec.structs.replace(document, revision=document.revision + 1, format=2))
        if len(text) > MAX_DOCUMENT_BYTES:
            raise StoreFull(
                f"the document of {document.name!r} and its {len(document.versions)} versions would have {len(text)} "
                f"bytes, more than the {MAX_DOCUMENT_BYTES} that one name may have, so nothing was changed: collect "
                "old versions with `switchyard adapters gc --apply`, shorten notes, or publish under another name"
            )
        try:
            decode_document(text)
        except (ValueError, InvalidName) as error:
            raise CorruptVersion(
                f"the change of {document.name!r} would leave a document that contradicts itself ({error}), so nothing "
                "was changed: report it"
            ) from error
        replace_file(self._path / file_name_of(document.adapter_name), text, self._files)

    def remove(self, name: AdapterName) -> None:
        """Remove a document. The caller holds the name's lock."""
        with suppress(FileNotFoundError):
            self._files.remove_file(self._path / file_name_of(name))
        self._files.sync_directory(self._path)

    def read_file(self, file_name: str) -> NameDocument | None:
        """The document in one of `file_names()`; None where it is gone.

        Raises:
            CorruptVersion: it is not the document of the name that it is filed under.
        """
        path = self._path / file_name
        try:
            state = _FileState.of(path.stat(follow_symlinks=False))
            known = self._parsed.get(file_name, state)
            if known is not None:
                return known
            document = decode_document(read_limited(path, MAX_DOCUMENT_BYTES))
            if file_name_of(document.adapter_name) != file_name:
                raise ValueError(f"it holds the name {document.name}")
        except FileNotFoundError:
            self._parsed.forget(file_name)
            return None
        except (ValueError, InvalidName, OSError, RecursionError) as error:
            # An OSError's text would name the machine's own paths.
            reason = error.strerror if isinstance(error, OSError) else error
            raise CorruptVersion(
                f"{self._path.name}/{file_name} in the store is not the document of an adapter name ({reason}); "
                "restore it, or rebuild it with `switchyard adapters verify --repair`"
            ) from error
        # A file replaced between the stat and the read is stored under the older state, and read again next time.
        self._parsed.put(file_name, state, document)
        return document

    def _name_of_file(self, file_name: str) -> AdapterName | None:
        """The name that a file is of; None where the file is gone, or is no document (which `read` says)."""
        known = self._name_of.get(file_name)
        if known is not None:
            return known
        try:
            name = decode_name(read_limited(self._path / file_name, MAX_DOCUMENT_BYTES))
        except FileNotFoundError:
            return None
        except (ValueError, InvalidName, OSError, RecursionError):
            name = None
        if name is None or file_name_of(name) != file_name:
            _LOG.warning("%s/%s in the store is not the document of an adapter name", self._path.name, file_name)
            return None
        self._name_of[file_name] = name
        return name


def _stem(name: AdapterName) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def file_name_of(name: AdapterName) -> str:
    """The file that the document of a name is in."""
    return f"{_stem(name)}.json"
