"""Adapters at rest: immutable versions by digest, movable aliases. No torch, nothing of the server."""

from adapters_store.base_description import BaseDescription
from adapters_store.digest import read_verified, verify_directory
from adapters_store.errors import (
    AdapterTooLarge,
    AliasConflict,
    ChecksumMismatch,
    CorruptVersion,
    InvalidAdapter,
    InvalidName,
    MissingFiles,
    StoreBusy,
    StoreError,
    StoreFull,
    UnknownAdapter,
)
from adapters_store.limits import Limits
from adapters_store.metadata import AdapterMetadata
from adapters_store.names import (
    AdapterName,
    AdapterRef,
    ModelName,
    parse_adapter_name,
    parse_adapter_ref,
    parse_model_name,
)
from adapters_store.records import AdapterEntry, AliasMove, EntryPage, Publication, RemovedAlias, Version
from adapters_store.store import AdapterStore

__all__ = [
    "AdapterEntry",
    "AdapterMetadata",
    "AdapterName",
    "AdapterRef",
    "AdapterStore",
    "AdapterTooLarge",
    "AliasConflict",
    "AliasMove",
    "BaseDescription",
    "ChecksumMismatch",
    "CorruptVersion",
    "EntryPage",
    "InvalidAdapter",
    "InvalidName",
    "Limits",
    "MissingFiles",
    "ModelName",
    "Publication",
    "RemovedAlias",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "UnknownAdapter",
    "Version",
    "parse_adapter_name",
    "parse_adapter_ref",
    "parse_model_name",
    "read_verified",
    "verify_directory",
]
