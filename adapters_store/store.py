"""The adapter store: publish a version, resolve a name to one, move aliases between them.

Layout under the root, in which names never become paths:

    versions/<2 hex>/<64 hex>/   adapter_config.json, adapter_model.safetensors, perhaps prompting.json,
                                 and version.json; never changed
    names/<sha256 of name>.json  versions and aliases of one name; replaced whole, under a lock
    tasks/<sha256 of name>.json  the rule of one task route and its revisions; replaced whole, under a lock
    leases/<random>.json         the digests that one server uses; replaced whole, and lapses by itself
    base.json                    the base that was last served from here
    tmp/                         versions in preparation
    quarantine/                  what `verify --repair` took out of the way

A name document is the authority on what there is: a version gets its name while its shard of `versions/` is
locked, and loses its files only once no document has it. Locks are taken in the order shard, name, leases.
"""

import builtins
import secrets
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters_store import clock
from adapters_store.base_description import BaseDescription, load_base, save_base
from adapters_store.digest import directory_digest
from adapters_store.disk_space import tells_full_disk
from adapters_store.entry_of_document import entry_of, listed_versions, version_of
from adapters_store.errors import InvalidName, UnknownAdapter, VersionInUse
from adapters_store.file_operations import OS_FILES, FileOperations, make_durable_directories
from adapters_store.lease_directory import LeaseDirectory
from adapters_store.limits import Limits
from adapters_store.name_directory import NameDirectory
from adapters_store.name_document import MoveReason, NameDocument, StoredMove, StoredVersion
from adapters_store.names import LATEST, AdapterName, AdapterRef, check_slug
from adapters_store.records import AdapterEntry, AliasMove, EntryPage, Publication, RemovedAlias, Version
from adapters_store.selection import (
    check_expectation,
    digest_of,
    not_live,
    stored_version,
    unknown_alias,
    version_retired,
)
from adapters_store.source_directory import copy_adapter
from adapters_store.suggestion import closest_names
from adapters_store.validation import validate_adapter
from adapters_store.version_directory import VersionDirectory
from adapters_store.version_notes import VersionNotes
from adapters_store.version_record import add_name_to_record, record_of, write_version_record


def is_store(root: Path) -> bool:
    """Whether a directory is a store already; opening one that is none makes it one."""
    return all((root / folder).is_dir() for folder in ("names", "versions"))


class AdapterStore:
    """A directory of adapters that several processes may read and write at once.

    Safe to use from several threads. Changes by other processes are seen by the next call. The root is created
    when absent. Every change ends whole or leaves the store as it was, also when the process or the machine dies
    in the middle.

    Raises:
        StoreFull: the disk has no space left.
        OSError: the directory cannot be opened.
    """

    @tells_full_disk
    def __init__(
        self,
        root: Path,
        *,
        limits: Limits = Limits(),  # noqa: B008 -- frozen
        files: FileOperations = OS_FILES,
    ) -> None:
        make_durable_directories(root, ("versions", "names", "leases", "tmp"), files)
        self._root = root
        self._limits = limits
        self.files = files
        self.names = NameDirectory(root / "names", files)
        self.versions = VersionDirectory(root / "versions", root / "tmp", files)
        self.leases = LeaseDirectory(root / "leases", files)

    @property
    def root(self) -> Path:
        """The directory of the store."""
        return self._root

    @property
    def limits(self) -> Limits:
        """The bounds on what may be published."""
        return self._limits

    @tells_full_disk
    def describe_base(self, description: BaseDescription) -> None:
        """Keep the description of the base that is served, so that a later push can be checked without it."""
        save_base(description, self._root / "base.json", self.files)

    def base(self) -> BaseDescription | None:
        """The base described last, or None.

        Raises:
            StoreError: the description was damaged.
        """
        return load_base(self._root / "base.json")

    @tells_full_disk
    def publish(
        self,
        name: AdapterName,
        source: Path,
        *,
        base: BaseDescription | None = None,
        alias: str = LATEST,
        expect: str | None = None,
        notes: VersionNotes = VersionNotes(source="directory"),  # noqa: B008 -- frozen
    ) -> Publication:
        """Check a PEFT directory, keep it as an immutable version, and move an alias to it.

        What is checked is a copy of `source`, and that copy is what is kept. It is checked against `base`, or
        against the store's described base; without either, shapes go unchecked and a warning says so. The same
        content again gives the same version, brings back one that was retired or collected, and repairs one that was
        damaged. `expect` is the digest that the caller believes the alias to point to, or `none` for nothing.

        Raises:
            InvalidName: the name is reserved or the alias is malformed.
            InvalidAdapter, AdapterTooLarge: the directory may not be published; nothing was changed.
            AliasConflict: the alias points elsewhere than `expect`; nothing was changed.
            CorruptVersion: the name's own document is damaged.
            StoreBusy, StoreFull: nothing was changed.
        """
        if name.is_reserved:
            raise InvalidName(f"{str(name)!r} cannot be published: `{name.name}` is a reserved name; choose another")
        check_slug(alias, "alias")
        check_expectation(name, self.names.read(name), alias, expect)
        with self.versions.staging() as staging:
            base = base if base is not None else self.base()
            copy_adapter(source, staging, self._limits, self.files, base=base)
            metadata = validate_adapter(staging, base=base, limits=self._limits)
            digest = directory_digest(staging)
            stored = StoredVersion(digest=digest, created=clock.now(), metadata=metadata, notes=notes)
            write_version_record(staging, record_of(stored, str(name)), self.files)
            with self.versions.install(staging, digest) as directory:
                # First, so that a document is never the only one who knows whose version it is.
                add_name_to_record(directory, stored, str(name), self.files)
                before, after = self._name(name, stored, alias, expect)
        known = before.version(digest)
        return Publication(
            version=self._version(after, digest),
            alias=alias,
            previous=before.current(alias),
            created=known is None or known.collected is not None,
            warnings=metadata.warnings,
        )

    def resolve(self, ref: AdapterRef) -> Version:
        """The version that a reference means now. Costs one stat while the name is unchanged.

        A digest resolves only under a name that it was published under. The version's files are not touched:
        whoever loads them checks them (`read_verified`).

        Raises:
            UnknownAdapter: no such name, alias or version, or the version was retired; the message suggests what
                may have been meant.
            CorruptVersion: the name's document is damaged.
        """
        document = self._document(ref.name)
        digest = digest_of(document, ref)
        if not document.is_live(digest):
            raise not_live(document, digest)
        return self._version(document, digest)

    def list(self) -> builtins.list[AdapterEntry]:
        """Every name, in order, with the versions that its aliases point to and its newest.

        A damaged name document is logged and left out.
        """
        return [self._listed(document) for document in self.names.read_all()]

    def page(self, limit: int, after: AdapterName | None = None) -> EntryPage:
        """As many entries of `list` as `limit` says, those that follow `after`."""
        names = self.names.names()
        start = 0 if after is None else bisect_right(names, str(after), key=str)
        wanted = names[start : start + limit]
        documents = list(self.names.read_all(wanted))
        return EntryPage(tuple(map(self._listed, documents)), has_more=start + len(wanted) < len(names))

    def get(self, name: AdapterName, *, history: bool = False) -> AdapterEntry:
        """One name with its aliases and all its versions, retired and collected ones too; `history` adds the moves.

        Raises:
            UnknownAdapter: there is no such name.
            CorruptVersion: the name's document is damaged.
        """
        return self._entry(self._document(name), history=history)

    def unnamed(self, digests: Collection[str]) -> set[str]:
        """Those of `digests` that resolve under no name."""
        rest = set(digests)
        for document in self.names.read_all():
            rest = {digest for digest in rest if not document.is_live(digest)}
        return rest

    @tells_full_disk
    def promote(self, ref: AdapterRef, alias: str = "prod", *, expect: str | None = None) -> AliasMove:
        """Point an alias of a name at the version that `ref` means. Nothing is recorded where it points there.

        `expect` is the digest that the caller believes the alias to point to, or `none` for nothing.

        Raises:
            UnknownAdapter: `ref` means nothing.
            VersionRetired: the version was retired or collected; nothing was changed.
            InvalidName: the alias is malformed.
            AliasConflict: the alias points elsewhere than `expect`; nothing was changed.
            StoreBusy, StoreFull: nothing was changed.
        """
        check_slug(alias, "alias")
        with self._changing(ref.name) as document:
            check_expectation(ref.name, document, alias, expect)
            return self._move(document, alias, digest_of(document, ref), "promote")

    @tells_full_disk
    def rollback(self, name: AdapterName, alias: str = "prod", *, expect: str | None = None) -> AliasMove:
        """Point an alias back to where it was before its last move; again, to the one before that.

        Versions on the way that were retired or collected are passed over.

        Raises:
            UnknownAdapter: no such name or alias, or the alias has no earlier version.
            AliasConflict: the alias points elsewhere than `expect`; nothing was changed.
            StoreBusy, StoreFull: nothing was changed.
        """
        with self._changing(name) as document:
            check_expectation(name, document, alias, expect)
            if document.current(alias) is None:
                raise unknown_alias(document, alias)
            previous = document.previous(alias)
            if previous is None:
                raise UnknownAdapter(
                    f"alias {alias!r} of {str(name)!r} has no earlier version to roll back to: promote one instead"
                )
            return self._move(document, alias, previous, "rollback")

    @tells_full_disk
    def unalias(self, name: AdapterName, alias: str) -> RemovedAlias:
        """Remove an alias with its history; the answer says where it pointed.

        Raises:
            UnknownAdapter: there is no such name or alias.
            StoreBusy, StoreFull: nothing was changed.
        """
        with self._changing(name) as document:
            digest = document.current(alias)
            if digest is None:
                raise unknown_alias(document, alias)
            self.names.write(document.without_alias(alias, clock.now()))
        return RemovedAlias(name=name, alias=alias, digest=digest)

    @tells_full_disk
    def retire(self, name: AdapterName, digest: str) -> Version:
        """Let a version resolve no more under a name. Its files stay until they are collected. Twice is once.

        Raises:
            UnknownAdapter: there is no such name or version.
            VersionInUse: an alias points to it; nothing was changed.
            StoreBusy, StoreFull: nothing was changed.
        """
        with self._changing(name) as document:
            stored = stored_version(document, digest)
            aliases = document.aliases_of(digest)
            if aliases:
                raise VersionInUse(
                    f"version {digest} of {str(name)!r} is what {', '.join(map(repr, aliases))} points to: move or "
                    "remove the alias first",
                    param="digest",
                )
            if stored.is_live:
                document = document.with_changed(msgspec.structs.replace(stored, retired=clock.now()))
                self.names.write(document)
        return self._version(document, digest)

    @tells_full_disk
    def restore(self, name: AdapterName, digest: str) -> Version:
        """Let a retired version resolve again. One that is live stays so.

        Raises:
            UnknownAdapter: there is no such name or version.
            VersionRetired: its files were collected; nothing was changed.
            StoreBusy, StoreFull: nothing was changed.
        """
        with self._changing(name) as document:
            stored = stored_version(document, digest)
            if stored.collected is not None:
                raise version_retired(document, stored)
            if stored.retired is not None:
                # As if it had just lost an alias, so that the next collection does not take it at once.
                restored = msgspec.structs.replace(stored, retired=None, unaliased=clock.now())
                document = document.with_changed(restored)
                self.names.write(document)
        return self._version(document, digest)

    @tells_full_disk
    def annotate(self, ref: AdapterRef, notes: VersionNotes, *, remove_tags: Iterable[str] = ()) -> Version:
        """Renew what is noted of a version: `notes` adds its tags and replaces what else it gives.

        Raises:
            UnknownAdapter: `ref` means nothing.
            InvalidNotes: there are too many tags now; nothing was changed.
            StoreBusy, StoreFull: nothing was changed.
        """
        gone = set(remove_tags)
        with self._changing(ref.name) as document:
            stored = stored_version(document, digest_of(document, ref))
            kept = msgspec.structs.replace(
                stored.notes, tags=tuple(tag for tag in stored.notes.tags if tag not in gone)
            )
            after = document.with_changed(msgspec.structs.replace(stored, notes=kept.updated(notes)))
            if after is not document:
                self.names.write(after)
        return self._version(after, stored.digest)

    @tells_full_disk
    def delete(self, name: AdapterName) -> AdapterEntry:
        """Remove a name with its aliases; it and its digests resolve no more under it.

        Version directories stay: other names may share them. One that no name has is left to a collection. Its record
        goes on telling of the name, so a later name of the same text that is rebuilt may have it again.

        Raises:
            UnknownAdapter: there is no such name.
            CorruptVersion: the name's document is damaged.
            StoreBusy: another process keeps the name locked; nothing was changed.
        """
        with self._changing(name) as document:
            entry = self._entry(document, history=False)
            for version in entry.versions:
                if version.collected is None:
                    self.versions.touch(version.digest)
            self.names.remove(name)
        return entry

    def _name(
        self, name: AdapterName, stored: StoredVersion, alias: str, expect: str | None
    ) -> tuple[NameDocument, NameDocument]:
        """Give an installed version its name and alias; the document before and after."""
        with self.names.lock(name):
            # Starting anywhere, so that a name deleted and made again has another size (see `encode_document`).
            before = self.names.read(name) or NameDocument(name=str(name), revision=secrets.randbelow(1 << 16))
            check_expectation(name, before, alias, expect)
            move = StoredMove(digest=stored.digest, moved=clock.now(), reason="publish")
            after = before.with_version(stored).with_move(alias, move)
            if after is not before:
                self.names.write(after)
            return before, after

    @contextmanager
    def _changing(self, name: AdapterName) -> Iterator[NameDocument]:
        """The document of a name, with other writers kept out. A name that is not there gets no lock file."""
        self._document(name)
        with self.names.lock(name):
            yield self._document(name)

    def _document(self, name: AdapterName) -> NameDocument:
        document = self.names.read(name)
        if document is not None:
            return document
        near = tuple(str(other) for other in closest_names(name, self.names.names()))
        close = " or ".join(map(repr, near))
        raise UnknownAdapter(
            f"there is no adapter {str(name)!r}" + (f"; did you mean {close}?" if close else ""),
            suggestions=near,
            is_name=True,
        )

    def _move(self, document: NameDocument, alias: str, digest: str, reason: MoveReason) -> AliasMove:
        """Move an alias and write the document. The caller holds the name's lock."""
        stored = stored_version(document, digest)
        if not stored.is_live:
            raise version_retired(document, stored)
        previous = document.current(alias)
        after = document.with_move(alias, StoredMove(digest=digest, moved=clock.now(), reason=reason))
        if after is not document:
            self.names.write(after)
        moved = after.aliases[alias][-1].moved
        return AliasMove(name=document.adapter_name, alias=alias, previous=previous, digest=digest, moved=moved)

    def _version(self, document: NameDocument, digest: str) -> Version:
        return version_of(document, stored_version(document, digest), self.versions.path_of(digest))

    def _entry(self, document: NameDocument, *, history: bool) -> AdapterEntry:
        versions = tuple(self._version(document, stored.digest) for stored in document.versions)
        return entry_of(document, versions, with_history=history)

    def _listed(self, document: NameDocument) -> AdapterEntry:
        versions = tuple(self._version(document, stored.digest) for stored in listed_versions(document))
        return entry_of(document, versions, with_history=False)
