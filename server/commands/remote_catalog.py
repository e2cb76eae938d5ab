"""The adapters of a running server, over HTTP."""

import builtins
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from adapters_store import parse_adapter_name
from adapters_store.adapter_files import ADAPTER_FILES, SOURCE_FILES
from adapters_store.hub_source import HubSource
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.source_directory import check_source, open_source_file
from adapters_store.version_notes import VersionNotes
from server.commands.server_connection import ServerConnection

_PAGE = 500


class _CountedFile(io.BufferedReader):
    """A file that reports to a progress bar what is read of it."""

    def __init__(self, raw: io.RawIOBase, progress: Progress, task: TaskID) -> None:
        super().__init__(raw)
        self._progress = progress
        self._task = task

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._progress.advance(self._task, len(data))
        return data


class RemoteCatalog:
    """Talks to `url`; `key` is sent where it is given. Progress is drawn on `stderr`."""

    def __init__(
        self, url: str, key: str | None, stderr: Console, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._call = ServerConnection(url, key, transport).call
        self._stderr = stderr

    def push(
        self, name: AdapterName, source: Path | HubSource, alias: str, *, expect: str | None, notes: VersionNotes
    ) -> dict[str, Any]:
        params = {"alias": alias} | ({} if expect is None else {"expect": expect})
        if isinstance(source, HubSource):
            answer = self._call("PUT", f"/v1/adapters/{name}", params=params, json={"source": str(source)})
        else:
            answer = self._upload(name, source, params)
        if notes == VersionNotes():
            return answer
        noted = self.annotate(AdapterRef(name, digest=answer["digest"]), notes, [])
        return {**answer, "notes": noted["notes"]}

    def _upload(self, name: AdapterName, directory: Path, params: dict[str, str]) -> dict[str, Any]:
        check_source(directory)
        with self._progress() as progress, ExitStack() as open_files:
            names = [name for name in SOURCE_FILES if name in ADAPTER_FILES or (directory / name).exists()]
            task = progress.add_task(f"push {name}", total=sum(_size(directory / file_name) for file_name in names))
            files = []
            for file_name in names:
                file = _CountedFile(open_source_file(directory / file_name).detach(), progress, task)
                files.append(("files", (file_name, open_files.enter_context(file))))
            return self._call("PUT", f"/v1/adapters/{name}", params=params, files=files)

    def list(self, limit: int | None, after: AdapterName | None) -> dict[str, Any]:
        entries: builtins.list[dict[str, Any]] = []
        has_more, last = True, after
        while has_more and (limit is None or len(entries) < limit):
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(entries))
            params = {"limit": str(wanted)} | ({} if last is None else {"after": str(last)})
            page = self._call("GET", "/v1/adapters", params=params)
            entries += page["data"]
            has_more = page.get("has_more", False) and bool(page["data"])
            last = parse_adapter_name(entries[-1]["id"]) if entries else None
        return {"object": "list", "data": entries, "has_more": has_more}

    def show(self, name: AdapterName, *, history: bool) -> dict[str, Any]:
        return self._call("GET", f"/v1/adapters/{name}", params={"history": "true"} if history else {})

    def promote(self, ref: AdapterRef, alias: str, *, expect: str | None) -> dict[str, Any]:
        body = {"alias": alias, **_selector(ref), "expect": expect}
        return self._call("POST", f"/v1/adapters/{ref.name}/promote", json=body)

    def rollback(self, name: AdapterName, alias: str, *, expect: str | None) -> dict[str, Any]:
        return self._call("POST", f"/v1/adapters/{name}/rollback", json={"alias": alias, "expect": expect})

    def unalias(self, name: AdapterName, alias: str) -> dict[str, Any]:
        return self._call("POST", f"/v1/adapters/{name}/unalias", json={"alias": alias})

    def retire(self, name: AdapterName, digest: str) -> dict[str, Any]:
        return self._call("POST", f"/v1/adapters/{name}/retire", json={"digest": digest})

    def restore(self, name: AdapterName, digest: str) -> dict[str, Any]:
        return self._call("POST", f"/v1/adapters/{name}/restore", json={"digest": digest})

    def annotate(self, ref: AdapterRef, notes: VersionNotes, remove_tags: builtins.list[str]) -> dict[str, Any]:
        body = {**_selector(ref), **msgspec.to_builtins(notes), "remove_tags": remove_tags}
        return self._call("POST", f"/v1/adapters/{ref.name}/notes", json=body)

    def delete(self, name: AdapterName) -> dict[str, Any]:
        return self._call("DELETE", f"/v1/adapters/{name}")

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        return Progress(*columns, console=self._stderr, transient=True, disable=not self._stderr.is_terminal)


def _selector(ref: AdapterRef) -> dict[str, str | None]:
    """How a body names a version."""
    return {"digest": ref.digest} if ref.digest is not None else {"from": ref.effective_alias}


def _size(path: Path) -> int:
    with open_source_file(path) as file:
        return file.seek(0, io.SEEK_END)
