"""The adapters of a running server, over HTTP."""

import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from adapters_store.adapter_files import ADAPTER_FILES
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.source_directory import check_source, open_source_file
from server.commands.failure import CommandFailed

# A server checks an upload before it answers: large adapters take their time.
_TIMEOUT = httpx.Timeout(30.0, read=600.0, write=600.0)


class _NotThere(CommandFailed):
    """The server answered 404."""


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
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommandFailed(f"--url {url!r} is not a URL: {error}") from None
        self._url = url
        self._stderr = stderr

    def push(self, name: AdapterName, directory: Path, alias: str) -> dict[str, Any]:
        check_source(directory)
        with self._progress() as progress, ExitStack() as open_files:
            total = sum(_size(directory / file_name) for file_name in ADAPTER_FILES)
            task = progress.add_task(f"push {name}", total=total)
            files = []
            for file_name in ADAPTER_FILES:
                file = _CountedFile(open_source_file(directory / file_name).detach(), progress, task)
                files.append(("files", (file_name, open_files.enter_context(file))))
            previous = self._alias_target(name, alias)
            answer = self._call("PUT", f"/v1/adapters/{name}", params={"alias": alias}, files=files)
        return {**answer, "previous": previous}

    def list(self) -> dict[str, Any]:
        return self._call("GET", "/v1/adapters")

    def show(self, name: AdapterName) -> dict[str, Any]:
        return self._call("GET", f"/v1/adapters/{name}")

    def promote(self, ref: AdapterRef, alias: str) -> dict[str, Any]:
        source = {"digest": ref.digest} if ref.digest is not None else {"from": ref.effective_alias}
        return self._call("POST", f"/v1/adapters/{ref.name}/promote", json={"alias": alias, **source})

    def rollback(self, name: AdapterName, alias: str) -> dict[str, Any]:
        return self._call("POST", f"/v1/adapters/{name}/rollback", json={"alias": alias})

    def delete(self, name: AdapterName) -> dict[str, Any]:
        return self._call("DELETE", f"/v1/adapters/{name}")

    def _alias_target(self, name: AdapterName, alias: str) -> str | None:
        try:
            digest: str | None = self.show(name)["aliases"].get(alias)
        except _NotThere:
            return None
        return digest

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        return Progress(*columns, console=self._stderr, transient=True, disable=not self._stderr.is_terminal)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, **request)
        except httpx.TimeoutException:
            raise CommandFailed(f"{self._url} did not answer in time") from None
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise CommandFailed(f"{self._url} cannot be reached: {error}") from None
        try:
            body = response.json()
        except ValueError:
            raise CommandFailed(f"{self._url} answered {response.status_code} and no JSON: is it Switchyard?") from None
        if response.is_success and isinstance(body, dict):
            return body
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise CommandFailed(f"{self._url} wants a valid API key: set SWITCHYARD_API_KEY to the server's key")
        failure = _NotThere if response.status_code == httpx.codes.NOT_FOUND else CommandFailed
        raise failure(_error_message(body) or f"{self._url} answered {response.status_code}")


def _size(path: Path) -> int:
    with open_source_file(path) as file:
        return file.seek(0, io.SEEK_END)


def _error_message(body: object) -> str | None:
    """The message of an error object in OpenAI's form."""
    match body:
        case {"error": {"message": str(message)}}:
            return message
    return None
