"""Picking a version out of a name document, and the errors for what is not there."""

from typing import Final

from adapters_store.errors import AliasConflict, UnknownAdapter, VersionRetired
from adapters_store.name_document import NameDocument, StoredVersion
from adapters_store.names import AdapterName, AdapterRef

NOTHING: Final = "none"
"""What `expect` says of an alias that should not be there yet."""


def check_expectation(name: AdapterName, document: NameDocument | None, alias: str, expect: str | None) -> None:
    """See that an alias points to the digest `expect`, or to nothing where that is `NOTHING`; None expects anything.

    Raises:
        AliasConflict: it points elsewhere.
    """
    if expect is None:
        return
    current = None if document is None else document.current(alias)
    if current != (None if expect == NOTHING else expect):
        raise AliasConflict(
            f"alias {alias!r} of {str(name)!r} points to {current or 'nothing'}, not to "
            f"{'nothing' if expect == NOTHING else expect}: read it again, then decide",
            param="expect",
        )


def digest_of(document: NameDocument, ref: AdapterRef) -> str:
    """The digest that a reference means, be it live or not.

    Raises:
        UnknownAdapter: the name has no such alias.
    """
    alias = ref.effective_alias
    if alias is None:
        assert ref.digest is not None
        return ref.digest
    digest = document.current(alias)
    if digest is None:
        raise unknown_alias(document, alias)
    return digest


def stored_version(document: NameDocument, digest: str) -> StoredVersion:
    """The version of a digest.

    Raises:
        UnknownAdapter: the name never had it.
    """
    stored = document.version(digest)
    if stored is None:
        raise UnknownAdapter(f"adapter {document.name!r} has no version {digest}")
    return stored


def not_live(document: NameDocument, digest: str) -> UnknownAdapter:
    """The error for a version that resolves no more."""
    stored = stored_version(document, digest)
    if stored.collected is not None:
        return UnknownAdapter(f"version {digest} of {document.name!r} was collected: publish its content again")
    return UnknownAdapter(f"version {digest} of {document.name!r} was retired: restore it, or name another")


def version_retired(document: NameDocument, stored: StoredVersion) -> VersionRetired:
    """The error for a version that an alias cannot be moved to."""
    return VersionRetired(not_live(document, stored.digest).message, param="digest")


def unknown_alias(document: NameDocument, alias: str) -> UnknownAdapter:
    """The error for an alias that is not there."""
    known = ", ".join(sorted(document.aliases)) or "none"
    return UnknownAdapter(f"adapter {document.name!r} has no alias {alias!r}; its aliases are: {known}")
