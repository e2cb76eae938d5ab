"""The fake server, running on a loopback port."""

import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest
import uvicorn

from tests.loadtest.fake_server import FakeServer

START_SECONDS = 20.0


@pytest.fixture
def serve() -> Iterator[Callable[[FakeServer], str]]:
    """Start a fake server and get its URL; it is stopped when the test ends."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(fake: FakeServer) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(fake.app(), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = monotonic() + START_SECONDS
        while not server.started:
            assert monotonic() < deadline, "the fake server did not start"
            sleep(0.01)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(START_SECONDS)
        assert not thread.is_alive()
