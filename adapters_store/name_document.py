"""What the store keeps for one adapter name: its versions, and its aliases with their history."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Final, Literal

import msgspec

from adapters_store import clock
from adapters_store.errors import InvalidNotes
from adapters_store.metadata import AdapterMetadata
from adapters_store.names import AdapterName, check_slug, parse_adapter_name
from adapters_store.version_notes import VersionNotes

Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
MoveReason = Literal["publish", "promote", "rollback"]

MAX_MOVES: Final = 100
# More writes of one name than fit into the time that a file system's clock takes to tick.
_SIZES: Final = 64


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version published under the name. Times are ISO 8601 in UTC.

    `created` is when it was first published, `unaliased` when it last lost its last alias (None: it has one, or
    lost it before this was written down). A `retired` version resolves no more; a `collected` one has no files, and
    of its metadata and notes only what is small.
    """

    digest: Digest
    created: str
    metadata: AdapterMetadata
    notes: VersionNotes = VersionNotes()
    unaliased: str | None = None
    retired: str | None = None
    collected: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether the version resolves."""
        return self.retired is None and self.collected is None

    def as_collected(self, moment: str) -> "StoredVersion":
        """The version without files: what stays of it is small, since a name keeps every version that it ever had."""
        metadata = dataclasses.replace(
            self.metadata, modules_by_rank={}, target_modules=(), warnings=(), prompting=None
        )
        return msgspec.structs.replace(self, metadata=metadata, notes=VersionNotes(), unaliased=None, collected=moment)


class StoredMove(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias: where to, when, and by what."""

    digest: Digest
    moved: str
    reason: MoveReason


class NameDocument(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Versions in the order they were published; per alias its moves, the last of which is where it points.

    The last `MAX_MOVES` moves of an alias are kept. `earlier` is what they build on: the digests that the moves
    before them had led through. An alias never points to a version that is not live. `revision` counts the writes.
    """

    name: str
    versions: tuple[StoredVersion, ...] = ()
    aliases: dict[str, tuple[StoredMove, ...]] = {}
    earlier: dict[str, tuple[Digest, ...]] = {}
    revision: int = 0
    format: Literal[1, 2] = 2

    @property
    def adapter_name(self) -> AdapterName:
        return parse_adapter_name(self.name)

    @cached_property
    def _by_digest(self) -> Mapping[str, StoredVersion]:
        return {version.digest: version for version in self.versions}

    def version(self, digest: str) -> StoredVersion | None:
        """The version of this digest, retired and collected ones too, or None where the name never had it."""
        return self._by_digest.get(digest)

    def is_live(self, digest: str) -> bool:
        """Whether the name has the version and it resolves."""
        version = self.version(digest)
        return version is not None and version.is_live

    def current(self, alias: str) -> str | None:
        """The digest that an alias points to, or None where there is no such alias."""
        moves = self.aliases.get(alias)
        return moves[-1].digest if moves else None

    def targets(self) -> dict[str, str]:
        """Where every alias points, in order of the aliases."""
        return {alias: self.aliases[alias][-1].digest for alias in sorted(self.aliases)}

    def aliases_of(self, digest: str) -> list[str]:
        """The aliases that point to a digest, in order."""
        return [alias for alias, target in self.targets().items() if target == digest]

    def previous(self, alias: str) -> str | None:
        """The digest that a rollback of the alias leads to, or None where it has nowhere to go back to.

        Versions on the way that were retired or collected are passed over.
        """
        path = self.path(alias)
        return next((digest for digest in reversed(path[:-1]) if digest != path[-1] and self.is_live(digest)), None)

    def path(self, alias: str) -> list[str]:
        """The digests that lead to where an alias is now, oldest first."""
        return _path(self.earlier.get(alias, ()), self.aliases.get(alias, ()))

    def within_reach(self, depth: int) -> set[str]:
        """What aliases point to, and the versions that `depth` rollbacks or the last `depth` moves of each lead to."""
        reached = set(self.targets().values())
        for alias, moves in self.aliases.items():
            steps = [digest for digest in self.path(alias)[:-1] if self.is_live(digest)]
            reached.update(steps[-depth:] if depth else ())
            reached.update(move.digest for move in (moves[-depth:] if depth else ()) if self.is_live(move.digest))
        return reached

    def malformed_time(self) -> str | None:
        """A time of the document that is none, or None where all are."""
        moves = (move.moved for moves in self.aliases.values() for move in moves)
        times = ((one.created, one.unaliased, one.retired, one.collected) for one in self.versions)
        for moment in itertools.chain(moves, *times):
            try:
                if moment is not None:
                    clock.seconds_of(moment)
            except ValueError:
                return moment
        return None

    def unused_since(self) -> dict[str, str]:
        """Of every version, when it last lost an alias, was retired or was published: the latest.

        That of a version which an alias points to means nothing.
        """
        since = {
            version.digest: max(version.created, version.unaliased or "", version.retired or "")
            for version in self.versions
        }
        for moves in self.aliases.values():
            for before, after in itertools.pairwise(moves):
                since[before.digest] = max(since[before.digest], after.moved)
        return since

    def with_version(self, version: StoredVersion) -> "NameDocument":
        """The document with one more version; of one that it has, what is known is renewed and the time kept.

        A version that was retired or collected is live again.
        """
        known = self.version(version.digest)
        if known is None:
            return msgspec.structs.replace(self, versions=(*self.versions, version))
        renewed = msgspec.structs.replace(
            known,
            metadata=version.metadata,
            notes=known.notes.updated(version.notes),
            retired=None,
            collected=None,
        )
        return self.with_changed(renewed)

    def with_changed(self, *changed: StoredVersion) -> "NameDocument":
        """The document with versions in the place of those of the same digests; itself where they are equal."""
        new = {version.digest: version for version in changed if self.version(version.digest) != version}
        if not new:
            return self
        versions = tuple(new.get(version.digest, version) for version in self.versions)
        return msgspec.structs.replace(self, versions=versions)

    def with_move(self, alias: str, move: StoredMove) -> "NameDocument":
        """The document with an alias moved; itself where the alias points there already."""
        before = self.current(alias)
        if before == move.digest:
            return self
        moves = (*self.aliases.get(alias, ()), move)
        earlier = self.earlier
        if len(moves) > MAX_MOVES:
            forgotten, moves = moves[:-MAX_MOVES], moves[-MAX_MOVES:]
            path = _path(earlier.get(alias, ()), forgotten)
            # Enough for a rollback of one step each; those that pass over steps may end where the path begins anew.
            earlier = {**earlier, alias: tuple(path[-MAX_MOVES - 1 :])}
        after = msgspec.structs.replace(self, aliases={**self.aliases, alias: moves}, earlier=earlier)
        return after._with_time_without_alias((before, move.digest), move.moved)

    def without_alias(self, alias: str, removed: str) -> "NameDocument":
        """The document without an alias and its history; `removed` is the time."""
        before = self.current(alias)
        aliases = {name: moves for name, moves in self.aliases.items() if name != alias}
        earlier = {name: path for name, path in self.earlier.items() if name != alias}
        after = msgspec.structs.replace(self, aliases=aliases, earlier=earlier)
        return after._with_time_without_alias((before,), removed)

    def _with_time_without_alias(self, digests: Iterable[str | None], time: str) -> "NameDocument":
        """Note on versions that gained or lost an alias whether they have one; `time` is that of the change."""
        targets = set(self.targets().values())
        known = (self.version(digest) for digest in digests if digest is not None)
        return self.with_changed(
            *(
                msgspec.structs.replace(version, unaliased=None if version.digest in targets else time)
                for version in known
                if version is not None
            )
        )


def encode_document(document: NameDocument) -> bytes:
    """The document as JSON, with as many line breaks after it as make its size follow `revision`.

    Sizes of the writes of one name differ from each other for `_SIZES` writes, so that a reader who compares a
    file's time, inode and size can tell one content from the next, also within one tick of the file system's clock.
    """
    text = msgspec.json.encode(document) + b"\n"
    return text + b"\n" * ((document.revision - len(text)) % _SIZES)


def decode_document(text: bytes) -> NameDocument:
    """Read a document and check what its types cannot say.

    Raises:
        ValueError, InvalidName: it is not a document of this format, or contradicts itself.
    """
    try:
        document = msgspec.json.decode(text, type=NameDocument)
    except InvalidNotes as error:
        raise ValueError(error.message) from error
    document = msgspec.structs.replace(document, versions=_sharing_metadata(document.versions))
    if str(document.adapter_name) != document.name:
        raise ValueError("the name is not in its canonical form")
    if not document.versions:
        raise ValueError("there is no version")
    for alias, moves in document.aliases.items():
        check_slug(alias, "alias")
        if not moves or any(document.version(move.digest) is None for move in moves):
            raise ValueError(f"alias {alias} points to a version that the name does not have")
        if not document.is_live(moves[-1].digest):
            raise ValueError(f"alias {alias} points to a version that was retired or collected")
        document.path(alias)
    return document


class _NameOnly(msgspec.Struct):
    name: str


def decode_name(text: bytes) -> AdapterName:
    """The name alone that a document is of; the rest is not looked at.

    Raises:
        ValueError, InvalidName: it is not a document at all.
    """
    return parse_adapter_name(msgspec.json.decode(text, type=_NameOnly).name)


def _sharing_metadata(versions: tuple[StoredVersion, ...]) -> tuple[StoredVersion, ...]:
    """Equal versions in which equal metadata of neighbours, as one recipe gives, is one object: half the memory."""
    shared: list[StoredVersion] = []
    for version in versions:
        last = shared[-1].metadata if shared else None
        shared.append(
            msgspec.structs.replace(version, metadata=last)
            if last is not None and version.metadata == last
            else version
        )
    return tuple(shared)


def _path(earlier: tuple[str, ...], moves: Iterable[StoredMove]) -> list[str]:
    """The digests that lead to where an alias is now: a rollback goes back to the last step of its digest.

    A rollback takes every step off that it passes over, so it may go back to before `earlier` begins; the path then
    begins with its digest.

    Raises:
        ValueError: no step was forgotten, and a rollback leads to where the alias never was.
    """
    path = list(earlier)
    for move in moves:
        if move.reason != "rollback":
            path.append(move.digest)
            continue
        del path[-1:]
        while path and path[-1] != move.digest:
            del path[-1:]
        if not path:
            if not earlier:
                raise ValueError("a rollback does not lead to where the alias was before")
            path = [move.digest]
    return path
