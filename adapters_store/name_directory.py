"""The folder of name documents: one file a name, named by the SHA-256 of the name, so no name becomes a path."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters_store.atomic_file import read_limited, replace_file, sync_directory
from adapters_store.errors import CorruptVersion, InvalidName
from adapters_store.file_lock import exclusive_lock
from adapters_store.name_document import NameDocument, decode_document, encode_document
from adapters_store.names import AdapterName

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
LOCK_SECONDS = 10.0

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


class NameDirectory:
    """Reads and writes name documents; parsed ones are kept until their file changes.

    Safe to use from several threads and processes: documents are replaced whole, and changed under `lock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parsed: dict[str, tuple[_FileState, NameDocument]] = {}
        self._known: tuple[int, tuple[AdapterName, ...]] = (-1, ())

    def read(self, name: AdapterName) -> NameDocument | None:
        """The document of a name as it is on disk now; None where there is none. Costs one stat when unchanged.

        Raises:
            CorruptVersion: the file is not the document of this name.
        """
        return self._read_file(_file_name(name))

    def read_all(self) -> Iterator[NameDocument]:
        """Every document; one that cannot be read is logged and left out, so that it hides no other."""
        for path in sorted(self._path.iterdir()):
            if not _DOCUMENT_FILE.fullmatch(path.name):
                continue
            try:
                document = self._read_file(path.name)
            except CorruptVersion as error:
                _LOG.warning("%s", error)
                continue
            if document is not None:
                yield document

    def known_names(self) -> tuple[AdapterName, ...]:
        """The names there are, as of the folder's last change: cheap, for suggestions, not for decisions."""
        changed = self._path.stat().st_mtime_ns
        if self._known[0] != changed:
            self._known = (changed, tuple(document.adapter_name for document in self.read_all()))
        return self._known[1]

    @contextmanager
    def lock(self, name: AdapterName) -> Iterator[None]:
        """Keep other writers of a name out, in this process and in others. Readers go on.

        Raises:
            StoreBusy: another writer holds the name for too long.
        """
        with exclusive_lock(self._path / f"{_stem(name)}.lock", f"adapter {str(name)!r}", seconds=LOCK_SECONDS):
            yield

    def write(self, document: NameDocument) -> None:
        """Replace a document atomically. The caller holds the name's lock."""
        replace_file(self._path / _file_name(document.adapter_name), encode_document(document))

    def remove(self, name: AdapterName) -> None:
        """Remove a document. The caller holds the name's lock."""
        (self._path / _file_name(name)).unlink(missing_ok=True)
        sync_directory(self._path)

    def _read_file(self, file_name: str) -> NameDocument | None:
        path = self._path / file_name
        try:
            state = _FileState.of(path.stat(follow_symlinks=False))
            known = self._parsed.get(file_name)
            if known is not None and known[0] == state:
                return known[1]
            document = decode_document(read_limited(path, MAX_DOCUMENT_BYTES))
            if _file_name(document.adapter_name) != file_name:
                raise ValueError(f"it holds the name {document.name}")
        except FileNotFoundError:
            self._parsed.pop(file_name, None)
            return None
        except (ValueError, InvalidName, OSError, RecursionError) as error:
            # An OSError's text would name the machine's own paths.
            reason = error.strerror if isinstance(error, OSError) else error
            raise CorruptVersion(
                f"{self._path.name}/{file_name} in the store is not the document of an adapter name ({reason}); "
                "restore it, or remove it and publish again"
            ) from error
        # A file replaced between the stat and the read is stored under the older state, and read again next time.
        self._parsed[file_name] = (state, document)
        return document


def _stem(name: AdapterName) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def _file_name(name: AdapterName) -> str:
    return f"{_stem(name)}.json"
