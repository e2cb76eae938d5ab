"""A server of our own: really started, found dead when it is, and never left behind."""

import sys
from pathlib import Path

import httpx
import pytest

from server.commands.server_process import ServerProcess
from server.errors import EngineUnavailable
from tests.tiny_models import write_tiny_model

READY = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

server = HTTPServer(("127.0.0.1", 0), Handler)
print(" ".join(sys.argv[1:]), file=sys.stderr, flush=True)
print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
"""
BROKEN = "import sys; print('no such base', file=sys.stderr); sys.exit(3)"
NEVER_READY = READY.replace('"/ready"', '"/nothing"')
DIES_LATER = """
import json, sys, time
print(json.dumps({"url": "http://127.0.0.1:9"}), flush=True)
time.sleep(0.5)
sys.exit(4)
"""


def stand_in(text: str, log: Path, *flags: str) -> ServerProcess:
    """A program that behaves like the command in the one way that matters here."""
    return ServerProcess(flags, log=log, program=(sys.executable, "-c", text))


def assert_gone(url: str) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")


def test_the_url_answers_inside_the_context_and_not_after(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with stand_in(READY, log, "--window-ms", "0") as server:
        server.wait_until_ready(10)
        assert httpx.get(f"{server.url}/ready").status_code == 200
    assert_gone(server.url)
    assert log.read_text().splitlines()[0] == "serve --json --host 127.0.0.1 --port 0 --window-ms 0"


def test_the_server_is_stopped_when_the_context_fails(tmp_path: Path) -> None:
    with pytest.raises(LookupError), stand_in(READY, tmp_path / "log") as server:
        raise LookupError
    assert_gone(server.url)


@pytest.mark.parametrize(("text", "status"), [(BROKEN, 3), (DIES_LATER, 4)], ids=["at once", "while it loads"])
def test_a_server_that_ends_is_an_error(tmp_path: Path, text: str, status: int) -> None:
    with pytest.raises(EngineUnavailable, match=f"status {status}"), stand_in(text, tmp_path / "log") as server:
        server.wait_until_ready(10)


def test_the_error_of_a_server_that_ended_has_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no such base"), stand_in(BROKEN, tmp_path / "log"):
        pytest.fail("the context was entered")


def test_a_server_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="not ready"), stand_in(NEVER_READY, tmp_path / "log") as server:
        server.wait_until_ready(0.5)


@pytest.mark.slow
def test_the_real_command_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    base = write_tiny_model("llama", tmp_path / "tiny")
    flags = ["--base", str(base), "--store", str(tmp_path / "store"), "--cache-dir", str(tmp_path / "cache")]
    with ServerProcess(flags, log=tmp_path / "log") as server:
        server.wait_until_ready(120)
        chat = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=chat, trust_env=False, timeout=60)
        assert answer.json()["usage"]["completion_tokens"] <= 2
    assert_gone(server.url)


@pytest.mark.slow
def test_a_base_that_cannot_be_served_is_reported_with_the_reason(tmp_path: Path) -> None:
    flags = ["--base", str(tmp_path), "--store", str(tmp_path / "store"), "--cache-dir", str(tmp_path / "cache")]
    with (
        pytest.raises(EngineUnavailable, match=r"has no config\.json"),
        ServerProcess(flags, log=tmp_path / "log") as server,
    ):
        server.wait_until_ready(120)
