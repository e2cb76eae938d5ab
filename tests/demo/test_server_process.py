"""The demo's server: really started, and never left behind."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from server.demo.server_process import ServerProcess
from server.errors import EngineUnavailable
from tests.tiny_models import write_tiny_model


def is_listening(url: str) -> bool:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


@pytest.mark.slow
def test_a_server_answers_inside_the_context_and_is_gone_after_an_error_in_it(tmp_path: Path) -> None:
    base = write_tiny_model("llama", tmp_path / "tiny")
    process = ServerProcess(
        base=str(base), store=tmp_path / "store", cache_dir=tmp_path / "cache", port=0, log=tmp_path / "log"
    )

    def ask_and_fail(server: ServerProcess) -> None:
        server.wait_until_ready(120)
        chat = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=chat, trust_env=False, timeout=60)
        raise LookupError(answer.status_code)

    with pytest.raises(LookupError, match="200"), process as server:
        ask_and_fail(server)
    assert not is_listening(process.url)


@pytest.mark.slow
def test_a_base_that_cannot_be_served_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    process = ServerProcess(
        base=str(tmp_path), store=tmp_path / "store", cache_dir=tmp_path / "cache", port=0, log=tmp_path / "log"
    )
    with pytest.raises(EngineUnavailable, match=r"has no config\.json"), process as server:
        server.wait_until_ready(120)
    assert not is_listening(process.url)


def test_a_server_that_does_not_start_at_all_is_reported_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a directory")
    process = ServerProcess(
        base="smollm2-135m", store=tmp_path / "store", cache_dir=tmp_path / "cache", port=0, log=tmp_path / "log"
    )
    with pytest.raises(EngineUnavailable, match="cannot open the store"), process:
        pytest.fail("the context was entered")
