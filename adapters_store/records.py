"""What the store answers with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters_store.metadata import AdapterMetadata
from adapters_store.names import AdapterName


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of an adapter, under one of its names.

    `digest` ("sha256:…") is its identity. `directory` holds `adapter_config.json` and
    `adapter_model.safetensors`. `created` is when it was first published under `name`, ISO 8601 in UTC.
    """

    name: AdapterName
    digest: str
    directory: Path
    metadata: AdapterMetadata
    created: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A publish that succeeded. `created` is False where the name had this very content already."""

    version: Version
    alias: str
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
class AdapterEntry:
    """A name with all that it has: aliases (to digests) and versions, oldest first.

    `created` is when its oldest version was published, ISO 8601 in UTC.
    """

    name: AdapterName
    aliases: Mapping[str, str]
    versions: tuple[Version, ...]
    created: str
