"""The command itself: light to start, helpful, and clear when it fails."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.commands.setting_flags import WITHOUT_FLAG, settings_from
from server.config import Settings
from server.errors import ConfigurationError
from tests.api.harness import Bench
from tests.commands.command_line import Finished
from tests.import_graph import ROOT

Run = Callable[..., Finished]

# `switchyard serve` with an engine that needs no model.
SERVE = """
import sys
from pathlib import Path
import server.commands.serve
from server.cli import main
from server.errors import BaseModelError
from tests.api.scripted_engine import ScriptedEngine, model_info, saying

base = Path(sys.argv.pop(1))
error = BaseModelError("cannot serve this:\\nit is a toaster") if base.name == "toaster" else None
server.commands.serve.ProcessEngine = lambda settings: ScriptedEngine(model_info(base), saying([5]), start_error=error)
main()
"""


@contextmanager
def served(base: Path, store: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A server process on a free port."""
    command = [sys.executable, "-c", SERVE, str(base), "serve", "--store", str(store), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_help_names_every_command_and_every_setting(run: Run) -> None:
    helped = run("--help")
    assert helped.status == 0
    assert all(f"  {command} " in helped.stdout for command in ("serve", "adapters", "demo"))
    serve = run("serve", "--help").stdout
    assert "Examples:" in serve
    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')}" in serve) == (name not in WITHOUT_FLAG)
    assert "API_KEY=" in serve


def test_the_version(run: Run) -> None:
    assert run("--version").stdout.startswith("switchyard ")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["adapters", "list", "--json"]])
def test_a_light_command_loads_neither_torch_nor_the_server(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "adapters").mkdir()
    program = (
        "import json, sys\nfrom server.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(finished.stderr.splitlines()[-1])
    assert {"torch", "transformers", "fastapi", "uvicorn"}.isdisjoint(loaded)


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_PORT", "1234")
    monkeypatch.setenv("SWITCHYARD_MAX_ROWS", "7")
    settings = settings_from({"port": 4321, "max_rows": None})
    assert (settings.port, settings.max_rows) == (4321, 7)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"window_ms": 51.0}, "window_ms"),
        ({"max_rows": 0, "block_size": 1000}, "block_size"),
        ({"host": "0.0.0.0"}, "SWITCHYARD_API_KEY"),
    ],
)
def test_an_impossible_setting_is_named(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        settings_from(flags)


def test_directories_are_joined_as_in_a_path_and_must_be_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_ADAPTER_ROOTS", "/srv/tuned:/mnt/team")
    assert settings_from({}).adapter_roots == (Path("/srv/tuned"), Path("/mnt/team"))
    assert settings_from({"adapter_roots": "/srv/other"}).adapter_roots == (Path("/srv/other"),)
    with pytest.raises(ConfigurationError, match=r"adapter_roots\.1: .*tuned is not an absolute path"):
        settings_from({"adapter_roots": "/srv/other:tuned"})


def test_an_impossible_setting_ends_the_command_with_one_line(run: Run) -> None:
    finished = run("serve", "--window-ms", "99")
    assert (finished.status, finished.stdout) == (1, "")
    assert finished.stderr.startswith("error: window_ms: ")
    assert finished.stderr.count("\n") == 1


def test_a_wrong_usage_is_status_2(run: Run) -> None:
    assert run("serve", "--no-such-flag").status == 2
    assert run("serve", "--quantization", "int3").status == 2


def test_a_key_as_a_flag_is_refused_with_the_variable_to_set(run: Run) -> None:
    finished = run("serve", "--api-key", "a-secret")
    assert finished.status == 2
    assert "set SWITCHYARD_API_KEY instead" in " ".join(finished.stderr.split())
    assert "a-secret" not in finished.stderr


def test_a_port_that_is_taken_is_one_line(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--port", port, "--store", tmp_path / "store")
    assert (finished.status, finished.stdout) == (1, "")
    reason = os.strerror(errno.EADDRINUSE)
    assert finished.stderr == (f"error: cannot listen on 127.0.0.1:{port}: {reason}; choose another --host or --port\n")


def test_a_server_says_where_it_listens_and_ends_gracefully(bench: Bench) -> None:
    with served(bench.base, bench.scratch / "store", "--json") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url) as client:
            while client.get("/ready").status_code != 200:
                pass
            answer = client.post("/v1/completions", json={"model": "base", "prompt": "x"})
        assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        rest, log = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "")
    assert "ready" in log


def test_people_are_told_where_it_listens_in_a_sentence(bench: Bench) -> None:
    with served(bench.base, bench.scratch / "store") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Listening on http://127.0.0.1:")


def test_an_engine_that_cannot_start_ends_the_server_with_one_line(tmp_path: Path) -> None:
    with served(tmp_path / "toaster", tmp_path / "store") as process:
        _, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert log.splitlines()[-1] == "error: cannot serve this: it is a toaster"


def test_a_store_that_cannot_be_opened_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = run("serve", "--port", 0, "--store", tmp_path / "file")
    assert finished.status == 1
    assert "cannot open the store" in finished.stderr


def test_a_preload_plan_that_is_not_valid_stops_the_start_and_names_the_field(run: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"schedules": [{"adapters": ["support"], "from": "9 am", "to": "18:00"}]}')
    finished = run("serve", "--port", 0, "--store", tmp_path / "store", "--preload-plan", plan)
    assert finished.status == 1
    assert "plan.json is not valid: schedules[0].from: '9 am' is no time" in " ".join(finished.stderr.split())
