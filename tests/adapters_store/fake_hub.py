"""A small model hub on loopback: what `huggingface_hub` asks of one to find a repository and fetch its files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class FakeHub:
    """Repositories by id; each has commits by name, and each commit the bytes of files by name.

    `announced` gives sizes that the hub lies about. `asked` lists the paths that were asked for, without queries.
    """

    url: str = ""
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, repository: str, directory: Path, *revisions: str) -> str:
        """Make a commit of a directory's files, which revisions point to, and `main`."""
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
        commit = hashlib.sha1(repr(files).encode(), usedforsecurity=False).hexdigest()
        self.files[commit] = files
        self.commits.setdefault(repository, {}).update(dict.fromkeys((*revisions, "main", commit), commit))
        return commit

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a GET; the body of a HEAD is left out."""
        self.asked.append(path)
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            revision = "/".join(parts[5:]) if parts[4:5] == ["revision"] else "main"
            return self._info("/".join(parts[2:4]), revision)
        if len(parts) == 5 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], parts[4])
        return 404, {}, b""

    def _info(self, repository: str, revision: str) -> tuple[int, dict[str, str], bytes]:
        if repository not in self.commits:
            return 404, {"x-error-code": "RepoNotFound"}, b""
        commit = self.commits[repository].get(revision)
        if commit is None:
            return 404, {"x-error-code": "RevisionNotFound"}, b""
        siblings = [
            {"rfilename": name, "size": self.announced.get(name, len(content))}
            for name, content in self.files[commit].items()
        ]
        return 200, {}, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()

    def _file(self, repository: str, revision: str, name: str) -> tuple[int, dict[str, str], bytes]:
        content = self.files.get(self.commits.get(repository, {}).get(revision, ""), {}).get(name)
        if content is None:
            return 404, {"x-error-code": "EntryNotFound"}, b""
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"etag": f'"{etag}"', "x-repo-commit": revision, "accept-ranges": "bytes"}, content


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that listens until the end of the block."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(with_body=True)

        def do_HEAD(self) -> None:
            self._send(with_body=False)

        def _send(self, *, with_body: bool) -> None:
            status, headers, body = hub.answer(urlsplit(self.path).path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def configured_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that `huggingface_hub` takes for its own, as with HF_ENDPOINT, although tests are kept from hubs."""
    with running_hub() as hub, monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
