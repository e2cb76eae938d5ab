"""An adapter in a repository of a model hub: pinned to a commit, and only the files that make an adapter."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from adapters_store.adapter_files import ADAPTER_FILES, CONFIG_FILE, SOURCE_FILES, WEIGHTS_FILE
from adapters_store.base_description import BaseDescription
from adapters_store.disk_space import tells_full_disk
from adapters_store.errors import AdapterTooLarge, InvalidAdapter, SourceUnavailable
from adapters_store.limits import Limits
from adapters_store.names import LATEST, AdapterName
from adapters_store.quoting import quoted
from adapters_store.records import Publication
from adapters_store.store import AdapterStore
from adapters_store.tokenizer_directory import MAX_TOKENIZER_BYTES
from adapters_store.version_notes import VersionNotes

HUB_PREFIX: Final = "hub:"

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SOURCE = re.compile(rf"hub:(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_METADATA_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository and a branch, tag or commit of it; None is the repository's main branch."""

    repository: str
    revision: str | None = None

    def fetch(self, directory: Path, limits: Limits, *, endpoint: str | None = None) -> str:
        """Download the adapter's files into a directory, and return where they came from: `hub:<id>@<commit>`.

        The revision is resolved to a commit first, and all files are of that commit. The hub is the one that
        `huggingface_hub` is configured for (HF_ENDPOINT, HF_TOKEN), or `endpoint`. Takes as long as the download.

        Raises:
            SourceUnavailable: the hub cannot be reached, or has no such repository or revision.
            InvalidAdapter: the repository is no adapter, or one without safetensors; nothing was downloaded.
            AdapterTooLarge: a file is larger than the limits allow; nothing was downloaded.
            OSError: the disk refused.
        """
        from huggingface_hub import HfApi, hf_hub_download

        with _told(self):
            info = HfApi(endpoint=endpoint).model_info(
                self.repository, revision=self.revision, files_metadata=True, timeout=_METADATA_SECONDS
            )
        commit = info.sha
        if commit is None or not _COMMIT.fullmatch(commit):
            raise SourceUnavailable(f"the hub names no commit of {self}", param="source")
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        for name in self._wanted(sizes, limits):
            with _told(self):
                path = Path(
                    hf_hub_download(self.repository, name, revision=commit, local_dir=directory, endpoint=endpoint)
                )
            if path.stat().st_size > _limit(name, limits):
                raise _too_large(name, path.stat().st_size, limits)
        return f"{HUB_PREFIX}{self.repository}@{commit}"

    def _wanted(self, sizes: Mapping[str, int], limits: Limits) -> list[str]:
        """The files to download, by what the hub says of the repository."""
        for name in ADAPTER_FILES:
            if name not in sizes:
                pickled = name == WEIGHTS_FILE and "adapter_model.bin" in sizes
                hint = ", only a pickle, which can run code when it is loaded: have its author save safetensors"
                raise InvalidAdapter(
                    f"{self} has no {name}{hint if pickled else ': it is no PEFT adapter'}", param=name
                )
        wanted = [name for name in SOURCE_FILES if name in sizes]
        for name in wanted:
            if sizes[name] > _limit(name, limits):
                raise _too_large(name, sizes[name], limits)
        return wanted

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision is not None else "")


@tells_full_disk
def publish_from_hub(
    store: AdapterStore,
    name: AdapterName,
    source: HubSource,
    *,
    base: BaseDescription | None = None,
    alias: str = LATEST,
    expect: str | None = None,
    notes: VersionNotes = VersionNotes(),  # noqa: B008 -- frozen
    endpoint: str | None = None,
) -> Publication:
    """Fetch an adapter into the store's own disk and publish it; its notes say which commit it was.

    Raises:
        SourceUnavailable: it cannot be fetched.
        StoreFull: the disk is full; nothing was changed.
        StoreError: as `AdapterStore.publish` does.
        OSError: the disk refused.
    """
    with store.versions.staging() as folder:
        origin = source.fetch(folder, store.limits, endpoint=endpoint)
        noted = msgspec.structs.replace(notes, source=origin)
        return store.publish(name, folder, base=base, alias=alias, expect=expect, notes=noted)


def parse_hub_source(text: str, *, param: str = "source") -> HubSource:
    """Read `hub:owner/name` or `hub:owner/name@revision`.

    Raises:
        InvalidAdapter: it is none.
    """
    found = _SOURCE.fullmatch(text)
    if found is None or ".." in text:
        raise InvalidAdapter(
            f"{param} {quoted(text)} is no adapter on a hub: write hub:OWNER/NAME@REVISION, where the revision is a "
            "commit, tag or branch, and the main branch where it is left out",
            param=param,
        )
    return HubSource(found["repository"], found["revision"])


def _limit(name: str, limits: Limits) -> int:
    if name == WEIGHTS_FILE:
        return limits.max_bytes
    return limits.max_config_bytes if name == CONFIG_FILE else MAX_TOKENIZER_BYTES


def _too_large(name: str, size: int, limits: Limits) -> AdapterTooLarge:
    return AdapterTooLarge(f"{name} has {size} bytes, more than the {_limit(name, limits)} allowed", param=name)


@contextmanager
def _told(source: HubSource) -> Iterator[None]:
    """Turn what `huggingface_hub` raises into one clear error; what the disk says stays."""
    from huggingface_hub import errors

    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise
        if isinstance(error, errors.OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE is set, so no hub is asked: unset it, or push a directory"
        elif isinstance(error, errors.GatedRepoError):
            reason = "it is gated: accept its terms on the hub and set HF_TOKEN"
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason = "the hub has no such repository, or HF_TOKEN may not see it"
        elif isinstance(error, errors.RevisionNotFoundError):
            reason = "the repository has no such revision"
        elif isinstance(error, errors.HFValidationError | errors.HfHubHTTPError):
            reason = _first_line(error)
        else:
            reason = f"the hub cannot be reached ({_first_line(error)}); where there is none, push a directory"
        raise SourceUnavailable(f"cannot fetch {source}: {reason}", param="source") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
