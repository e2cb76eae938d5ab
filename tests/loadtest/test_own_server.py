"""A server of our own knows nothing of the loads before it."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from loadtest.adapters import random_adapters
from loadtest.own_server import OwnServer


class StartedServer:
    """Remembers what it was started with."""

    commands: list[list[str]]
    url = "http://127.0.0.1:9"
    process_id = 1

    def __init__(self, flags: Sequence[str], *, log: Path) -> None:
        self.commands.append(list(flags))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def wait_until_ready(self, seconds: float) -> None:
        return None


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []
    monkeypatch.setattr(StartedServer, "commands", found, raising=False)
    monkeypatch.setattr("loadtest.own_server.ServerProcess", StartedServer)
    return found


def server(tmp_path: Path, *flags: str, **more: Any) -> OwnServer:
    return OwnServer("tiny", tmp_path / "store", tmp_path / "server.log", flags, **more)


def histories(command: Sequence[str]) -> list[str]:
    return [value for flag, value in pairwise(command) if flag == "--traffic-history"]


def test_every_start_has_a_traffic_history_of_its_own(tmp_path: Path, commands: list[list[str]]) -> None:
    own = server(tmp_path, "--eviction", "predicted")
    seen = []
    for _ in range(2):
        with own.serving():
            (history,) = histories(commands[-1])
            seen.append(history)
            assert Path(history).parent.is_dir()
            assert list(Path(history).parent.iterdir()) == []
    assert len(set(seen)) == 2
    assert not any(Path(history).parent.exists() for history in seen)


def test_the_ranks_of_what_was_published_are_known(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.own_server.published_adapters", lambda *_, **__: {"load-000": "x", "load-001": "y"})
    own = server(tmp_path)
    own.prepare(random_adapters(2, ranks=(4, 8)), keep=False)
    with own.serving() as target:
        assert target.ranks == {"load-000": 4, "load-001": 8}
    assert len(commands) == 2


@pytest.mark.parametrize("given", [("--traffic-history", "kept"), ("--traffic-history=kept",)])
def test_a_history_that_the_caller_gives_is_used(
    tmp_path: Path, commands: list[list[str]], given: tuple[str, ...]
) -> None:
    with server(tmp_path, *given).serving(("--window-ms", "0")):
        pass
    assert commands[-1][4:] == [*given, "--window-ms", "0"]
