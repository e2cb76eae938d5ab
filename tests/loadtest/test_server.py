"""A server of our own is waited for, found dead when it is, and never left behind."""

import sys
from pathlib import Path

import httpx
import pytest

from loadtest.server import ServerStartError, end_of, running_server

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


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_the_url_answers_while_the_block_runs_and_not_after(tmp_path: Path) -> None:
    log, store = tmp_path / "log", tmp_path / "store"
    with running_server("tiny", store, log, program=program(READY), flags=("--window-ms", "0")) as url:
        assert httpx.get(f"{url}/ready").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")
    started_with = log.read_text().splitlines()[0]
    assert started_with == f"serve --base tiny --store {store} --host 127.0.0.1 --port 0 --json --window-ms 0"


def test_the_server_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        running_server("tiny", tmp_path, tmp_path / "log", program=program(READY)) as url,
    ):
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")


@pytest.mark.parametrize(("text", "status"), [(BROKEN, 3), (DIES_LATER, 4)], ids=["at once", "while it loads"])
def test_a_server_that_ends_is_an_error(tmp_path: Path, text: str, status: int) -> None:
    with (
        pytest.raises(ServerStartError, match=f"status {status}"),
        running_server("none", tmp_path, tmp_path / "log", program=program(text)),
    ):
        pytest.fail("the block must not run")


def test_the_log_of_a_server_that_ended_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ServerStartError), running_server("none", tmp_path, log, program=program(BROKEN)):
        pytest.fail("the block must not run")
    assert end_of(log) == "no such base"


def test_a_server_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerStartError, match="not ready"),
        running_server("tiny", tmp_path, tmp_path / "log", program=program(NEVER_READY), ready_seconds=0.5),
    ):
        pytest.fail("the block must not run")


def test_a_log_that_was_never_written_has_no_end(tmp_path: Path) -> None:
    assert end_of(tmp_path / "log") == ""
