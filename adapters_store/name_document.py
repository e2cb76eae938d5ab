"""What the store keeps for one adapter name: its versions, and its aliases with their history."""

from typing import Annotated, Literal

import msgspec

from adapters_store.metadata import AdapterMetadata
from adapters_store.names import AdapterName, check_slug, parse_adapter_name

Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
MoveReason = Literal["publish", "promote", "rollback"]


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version published under the name, and when first."""

    digest: Digest
    created: str
    metadata: AdapterMetadata


class StoredMove(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias: where to, when, and by what."""

    digest: Digest
    moved: str
    reason: MoveReason


class NameDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Versions in the order they were published; per alias its moves, the last of which is where it points.

    The history of an alias only grows, so every move makes the document longer.
    """

    name: str
    versions: tuple[StoredVersion, ...] = ()
    aliases: dict[str, tuple[StoredMove, ...]] = {}
    format: Literal[1] = 1

    @property
    def adapter_name(self) -> AdapterName:
        return parse_adapter_name(self.name)

    def version(self, digest: str) -> StoredVersion | None:
        """The version of this digest, or None where the name never had it."""
        return next((version for version in self.versions if version.digest == digest), None)

    def current(self, alias: str) -> str | None:
        """The digest that an alias points to, or None where there is no such alias."""
        moves = self.aliases.get(alias)
        return moves[-1].digest if moves else None

    def previous(self, alias: str) -> str | None:
        """The digest that a rollback of the alias leads to, or None where it has nowhere to go back to."""
        path = _path(self.aliases.get(alias, ()))
        return path[-2] if len(path) > 1 else None

    def with_version(self, version: StoredVersion) -> "NameDocument":
        """The document with one more version; of one that it has, what is known is renewed and the time kept."""
        known = self.version(version.digest)
        if known is None:
            return msgspec.structs.replace(self, versions=(*self.versions, version))
        if known.metadata == version.metadata:
            return self
        renewed = msgspec.structs.replace(known, metadata=version.metadata)
        return msgspec.structs.replace(self, versions=tuple(renewed if v is known else v for v in self.versions))

    def with_move(self, alias: str, move: StoredMove) -> "NameDocument":
        """The document with an alias moved; itself where the alias points there already."""
        if self.current(alias) == move.digest:
            return self
        moves = (*self.aliases.get(alias, ()), move)
        return msgspec.structs.replace(self, aliases={**self.aliases, alias: moves})


def encode_document(document: NameDocument) -> bytes:
    """The document as JSON that people can read, too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_document(text: bytes) -> NameDocument:
    """Read a document and check what its types cannot say.

    Raises:
        ValueError, InvalidName: it is not a document of this format, or contradicts itself.
    """
    document = msgspec.json.decode(text, type=NameDocument)
    if str(document.adapter_name) != document.name:
        raise ValueError("the name is not in its canonical form")
    digests = {version.digest for version in document.versions}
    if not digests:
        raise ValueError("there is no version")
    for alias, moves in document.aliases.items():
        check_slug(alias, "alias")
        if not moves or not digests.issuperset(move.digest for move in moves):
            raise ValueError(f"alias {alias} points to a version that the name does not have")
        _path(moves)
    return document


def _path(moves: tuple[StoredMove, ...]) -> list[str]:
    """The digests that lead to where an alias is now: a rollback takes the last step back."""
    path: list[str] = []
    for move in moves:
        if move.reason != "rollback":
            path.append(move.digest)
            continue
        del path[-1:]
        if not path or path[-1] != move.digest:
            raise ValueError("a rollback does not lead to where the alias was before")
    return path
