"""The adapter store: publish a version, resolve a name to one, move aliases between them.

Layout under the root, in which names never become paths:

    versions/<2 hex>/<64 hex>/   adapter_config.json, adapter_model.safetensors, version.json; never changed
    names/<sha256 of name>.json  versions and aliases of one name; replaced whole, under a lock
    base.json                    the base that was last served from here
    tmp/                         versions in preparation
"""

import builtins
from datetime import UTC, datetime
from pathlib import Path

from adapters_store.base_description import BaseDescription, load_base, save_base
from adapters_store.digest import directory_digest
from adapters_store.errors import AliasConflict, InvalidName, UnknownAdapter
from adapters_store.limits import Limits
from adapters_store.name_directory import NameDirectory
from adapters_store.name_document import MoveReason, NameDocument, StoredMove, StoredVersion
from adapters_store.names import LATEST, AdapterName, AdapterRef, check_slug
from adapters_store.records import AdapterEntry, AliasMove, Publication, Version
from adapters_store.source_directory import copy_adapter
from adapters_store.suggestion import closest_names
from adapters_store.validation import validate_adapter
from adapters_store.version_directory import VersionDirectory
from adapters_store.version_record import write_version_record


class AdapterStore:
    """A directory of adapters that several processes may read and write at once.

    Safe to use from several threads. Changes by other processes are seen by the next call. The root is created
    when absent.
    """

    def __init__(self, root: Path, *, limits: Limits = Limits()) -> None:  # noqa: B008 -- frozen
        for directory in ("versions", "names", "tmp"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        self._root = root
        self._limits = limits
        self._names = NameDirectory(root / "names")
        self._versions = VersionDirectory(root / "versions", root / "tmp")

    @property
    def root(self) -> Path:
        """The directory of the store."""
        return self._root

    def describe_base(self, description: BaseDescription) -> None:
        """Keep the description of the base that is served, so that a later push can be checked without it."""
        save_base(description, self._root / "base.json")

    def base(self) -> BaseDescription | None:
        """The base described last, or None.

        Raises:
            StoreError: the description was damaged.
        """
        return load_base(self._root / "base.json")

    def publish(
        self, name: AdapterName, source: Path, *, base: BaseDescription | None = None, alias: str = LATEST
    ) -> Publication:
        """Check a PEFT directory, keep it as an immutable version, and move an alias to it.

        What is checked is a copy of `source`, and that copy is what is kept. It is checked against `base`, or
        against the store's described base; without either, shapes go unchecked and a warning says so. The same
        content again gives the same version, and repairs one that was damaged.

        Raises:
            InvalidName: the name is reserved or the alias is malformed.
            InvalidAdapter, AdapterTooLarge: the directory may not be published; nothing was changed.
            CorruptVersion: the name's own document is damaged.
            StoreBusy: another process keeps the name locked; nothing was changed.
        """
        if name.is_reserved:
            raise InvalidName(f"{str(name)!r} cannot be published: `{name.name}` is a reserved name; choose another")
        check_slug(alias, "alias")
        with self._versions.staging() as staging:
            copy_adapter(source, staging, self._limits)
            metadata = validate_adapter(staging, base=base if base is not None else self.base(), limits=self._limits)
            digest = directory_digest(staging)
            stored = StoredVersion(digest=digest, created=_now(), metadata=metadata)
            write_version_record(staging, stored)
            self._versions.install(staging, digest)
        with self._names.lock(name):
            before = self._names.read(name) or NameDocument(name=str(name))
            after = before.with_version(stored)
            after = after.with_move(alias, StoredMove(digest=digest, moved=_now(), reason="publish"))
            if after is not before:
                self._names.write(after)
        return Publication(
            version=self._version(after, digest),
            alias=alias,
            created=before.version(digest) is None,
            warnings=metadata.warnings,
        )

    def resolve(self, ref: AdapterRef) -> Version:
        """The version that a reference means now. Costs one stat while the name is unchanged.

        A digest resolves only under a name that it was published under. The version's files are not touched:
        whoever loads them checks them (`read_verified`).

        Raises:
            UnknownAdapter: no such name, alias or version; the message suggests what may have been meant.
            CorruptVersion: the name's document is damaged.
        """
        document = self._document(ref.name)
        return self._version(document, _digest_of(document, ref))

    def list(self) -> builtins.list[AdapterEntry]:
        """Every name, in order. A damaged name document is logged and left out."""
        entries = [self._entry(document) for document in self._names.read_all()]
        return sorted(entries, key=lambda entry: str(entry.name))

    def get(self, name: AdapterName) -> AdapterEntry:
        """One name with its aliases and versions.

        Raises:
            UnknownAdapter: there is no such name.
            CorruptVersion: the name's document is damaged.
        """
        return self._entry(self._document(name))

    def promote(self, ref: AdapterRef, alias: str = "prod", *, expect: str | None = None) -> AliasMove:
        """Point an alias of a name at the version that `ref` means. Nothing is recorded where it points there.

        `expect` is the digest that the caller believes the alias to point to.

        Raises:
            UnknownAdapter: `ref` means nothing.
            InvalidName: the alias is malformed.
            AliasConflict: the alias points elsewhere than `expect`; nothing was changed.
            StoreBusy: another process keeps the name locked; nothing was changed.
        """
        check_slug(alias, "alias")
        with self._names.lock(ref.name):
            document = self._document(ref.name)
            current = document.current(alias)
            if expect is not None and current != expect:
                raise AliasConflict(
                    f"alias {alias!r} of {str(ref.name)!r} points to {current or 'nothing'}, not to {expect}: "
                    "read it again, then decide",
                    param="expect",
                )
            return self._move(document, alias, _digest_of(document, ref), "promote")

    def rollback(self, name: AdapterName, alias: str = "prod") -> AliasMove:
        """Point an alias back to where it was before its last move; again, to the one before that.

        Raises:
            UnknownAdapter: no such name or alias, or the alias has no earlier version.
            StoreBusy: another process keeps the name locked; nothing was changed.
        """
        with self._names.lock(name):
            document = self._document(name)
            if document.current(alias) is None:
                raise _unknown_alias(document, alias)
            previous = document.previous(alias)
            if previous is None:
                raise UnknownAdapter(
                    f"alias {alias!r} of {str(name)!r} has no earlier version to roll back to: promote one instead"
                )
            return self._move(document, alias, previous, "rollback")

    def delete(self, name: AdapterName) -> AdapterEntry:
        """Remove a name with its aliases; it and its digests resolve no more under it.

        Version directories stay: other names may share them. One that no name refers to remains on disk as
        unreferenced content; nothing collects it yet.

        Raises:
            UnknownAdapter: there is no such name.
            CorruptVersion: the name's document is damaged.
            StoreBusy: another process keeps the name locked; nothing was changed.
        """
        with self._names.lock(name):
            entry = self._entry(self._document(name))
            self._names.remove(name)
        return entry

    def _document(self, name: AdapterName) -> NameDocument:
        document = self._names.read(name)
        if document is not None:
            return document
        close = " or ".join(repr(str(other)) for other in closest_names(name, self._names.known_names()))
        raise UnknownAdapter(f"there is no adapter {str(name)!r}" + (f"; did you mean {close}?" if close else ""))

    def _move(self, document: NameDocument, alias: str, digest: str, reason: MoveReason) -> AliasMove:
        """Move an alias and write the document. The caller holds the name's lock."""
        previous = document.current(alias)
        after = document.with_move(alias, StoredMove(digest=digest, moved=_now(), reason=reason))
        if after is not document:
            self._names.write(after)
        moved = after.aliases[alias][-1].moved
        return AliasMove(name=document.adapter_name, alias=alias, previous=previous, digest=digest, moved=moved)

    def _version(self, document: NameDocument, digest: str) -> Version:
        stored = document.version(digest)
        if stored is None:
            raise UnknownAdapter(f"adapter {document.name!r} has no version {digest}")
        return Version(
            name=document.adapter_name,
            digest=digest,
            directory=self._versions.path_of(digest),
            metadata=stored.metadata,
            created=stored.created,
        )

    def _entry(self, document: NameDocument) -> AdapterEntry:
        return AdapterEntry(
            name=document.adapter_name,
            aliases={alias: moves[-1].digest for alias, moves in sorted(document.aliases.items())},
            versions=tuple(self._version(document, stored.digest) for stored in document.versions),
            created=document.versions[0].created,
        )


def _digest_of(document: NameDocument, ref: AdapterRef) -> str:
    alias = ref.effective_alias
    if alias is None:
        assert ref.digest is not None
        return ref.digest
    digest = document.current(alias)
    if digest is None:
        raise _unknown_alias(document, alias)
    return digest


def _unknown_alias(document: NameDocument, alias: str) -> UnknownAdapter:
    known = ", ".join(sorted(document.aliases)) or "none"
    return UnknownAdapter(f"adapter {document.name!r} has no alias {alias!r}; its aliases are: {known}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
