"""A server of our own is waited for, found dead when it is, and never left behind."""

import sys
from pathlib import Path

import httpx
import pytest

from loadtest.server import ServerStartError, end_of, free_port, running_server

READY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

print(" ".join(sys.argv[1:]), flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
BROKEN = "import sys; print('no such base', file=sys.stderr); sys.exit(3)"
SILENT = "import time; time.sleep(600)"


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_the_url_answers_while_the_block_runs_and_not_after(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server("tiny", tmp_path / "store", log, program=program(READY), flags=("--window-ms", "0")) as url:
        assert httpx.get(f"{url}/ready").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")
    started_with = log.read_text().splitlines()[0]
    port = url.rsplit(":", 1)[-1]
    store = tmp_path / "store"
    assert started_with == f"serve --base tiny --store {store} --host 127.0.0.1 --port {port} --window-ms 0"


def test_the_server_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        running_server("tiny", tmp_path, tmp_path / "log", program=program(READY)) as url,
    ):
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready")


def test_a_server_that_ends_is_an_error_and_its_log_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(ServerStartError, match="status 3"),
        running_server("none", tmp_path, log, program=program(BROKEN)),
    ):
        pytest.fail("the block must not run")
    assert end_of(log) == "no such base"


def test_a_server_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerStartError, match="not ready"),
        running_server("tiny", tmp_path, tmp_path / "log", program=program(SILENT), ready_seconds=0.5),
    ):
        pytest.fail("the block must not run")


def test_a_log_that_was_never_written_has_no_end(tmp_path: Path) -> None:
    assert end_of(tmp_path / "log") == ""


def test_free_ports_can_be_bound() -> None:
    assert 1024 <= free_port() <= 65535
