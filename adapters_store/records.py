"""What the store answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapters_store.metadata import AdapterMetadata
from adapters_store.names import AdapterName
from adapters_store.version_notes import VersionNotes


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of an adapter, under one of its names.

    `digest` ("sha256:…") is its identity. `directory` holds `adapter_config.json` and
    `adapter_model.safetensors`. `created` is when it was first published under `name`, ISO 8601 in UTC; so are
    `retired` and `collected`, where the version resolves no more.
    """

    name: AdapterName
    digest: str
    directory: Path
    metadata: AdapterMetadata
    created: str
    notes: VersionNotes = field(default_factory=VersionNotes)
    retired: str | None = None
    collected: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A publish that succeeded. `created` is False where the name had this very content already.

    `previous` is the digest that the alias pointed to before, None where it is new.
    """

    version: Version
    alias: str
    previous: str | None
    created: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias and where it points now; `previous` is None where it is new. `moved` is ISO 8601 in UTC."""

    name: AdapterName
    alias: str
    previous: str | None
    digest: str
    moved: str


@dataclass(frozen=True, slots=True)
class RemovedAlias:
    """An alias that is gone, and where it pointed."""

    name: AdapterName
    alias: str
    digest: str


@dataclass(frozen=True, slots=True)
class HistoricMove:
    """One move of an alias in its history: where to, when (ISO 8601 in UTC), and by what."""

    digest: str
    moved: str
    reason: Literal["publish", "promote", "rollback"]


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """A name with what it has: aliases (to digests) and versions, oldest first.

    `created` is when its oldest version was published, ISO 8601 in UTC. `version_count` counts the versions that
    resolve. In a list, `versions` are only those of interest there. `history` has the moves of every alias, oldest
    first, where it was asked for.
    """

    name: AdapterName
    aliases: Mapping[str, str]
    versions: tuple[Version, ...]
    created: str
    version_count: int
    history: Mapping[str, tuple[HistoricMove, ...]] | None = None


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries in order of their names; `has_more` where others follow the last."""

    entries: tuple[AdapterEntry, ...]
    has_more: bool
