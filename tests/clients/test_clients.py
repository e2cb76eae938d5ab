"""Clients that applications use already, each in an environment of its own, against a real server.

`make clients` sets the environments up below `.clients` and runs this; what is not set up is skipped.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store import AdapterStore, parse_adapter_name
from tests.http.real_server import RealServer, serving
from tests.import_graph import ROOT
from tests.lora_adapters import write_lora
from tests.tiny_models import write_tiny_model

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
PYTHON = ROOT / ".clients" / "python" / "bin" / "python"
NODE = ROOT / ".clients" / "node"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    directory = tmp_path_factory.mktemp("server")
    base = write_tiny_model("llama", directory / "base")
    config = json.loads((base / "config.json").read_text())
    # A token is a byte here, and tools take hundreds of them.
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    with serving(base, directory) as running:
        adapter = write_lora(base, directory / "support", seed=1, strength=0.2)
        AdapterStore(running.store).publish(parse_adapter_name("support"), adapter)
        yield running


@pytest.fixture(scope="module")
def plain(server: RealServer) -> dict[str, Any]:
    """What the server says to a request without any client library: the answer all of them must find."""
    body = {"model": "support", "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": "Hello"}]}
    answer: dict[str, Any] = httpx.post(f"{server.url}/v1/chat/completions", json=body).raise_for_status().json()
    return answer


def drive(*command: str | Path, server: RealServer) -> dict[str, Any]:
    """What a driver saw."""
    if not Path(command[0]).exists() and shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not there: `make clients` sets it up")
    ran = subprocess.run(
        [*command, server.url, "support"], capture_output=True, text=True, timeout=120, check=False, cwd=HERE
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    seen: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return seen


def test_the_openai_package_for_node(server: RealServer, plain: dict[str, Any]) -> None:
    if not (NODE / "driver.mjs").exists():
        pytest.skip("Node or its packages are not there: `make clients` sets them up")
    seen = drive("node", NODE / "driver.mjs", server=server)
    assert seen["adapter"] == "support"
    assert seen["text"] == seen["streamed"] == plain["choices"][0]["message"]["content"]
    assert seen["tokens"] == seen["streamed_tokens"] == plain["usage"]["completion_tokens"]
    assert seen["choices"] == [0, 1, 2, 3]
    assert seen["logprobs"] > 0
    assert json.loads(seen["structured"])["colour"] in {"red", "green"}
    assert seen["finish_reason"] in {"tool_calls", "stop"}
    assert seen["call"]["name"] == "paint"
    assert json.loads(seen["call"]["arguments"])["colour"] in {"red", "green"}
    assert "support" in seen["models"]
    assert seen["error"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}


def test_litellm(server: RealServer, plain: dict[str, Any]) -> None:
    seen = drive(PYTHON, HERE / "drivers" / "litellm_driver.py", server=server)
    assert seen["text"] == seen["streamed"] == plain["choices"][0]["message"]["content"]
    assert seen["tokens"] == plain["usage"]["completion_tokens"]
    assert seen["choices"] == 3
    assert seen["completion"]
    assert seen["error"] == {"name": "NotFoundError", "status": 404}


def test_langchain(server: RealServer, plain: dict[str, Any]) -> None:
    seen = drive(PYTHON, HERE / "drivers" / "langchain_driver.py", server=server)
    assert seen["text"] == seen["streamed"]
    assert seen["batch"] == [seen["text"]] * 3
    assert seen["tokens"] == plain["usage"]["completion_tokens"]
    assert seen["structured"] in {"red", "green"}
    assert seen["call"]["name"] == "Colour"
    assert seen["call"]["arguments"]["colour"] in {"red", "green"}
    assert seen["completion"]
    assert seen["error"] == {"name": "OpenAIModelNotFoundError", "status": 404}


def test_lorax_client(server: RealServer) -> None:
    seen = drive(PYTHON, HERE / "drivers" / "lorax_driver.py", server=server)
    body = {"model": "support", "max_tokens": 8, "temperature": 0, "prompt": "Hello"}
    ours = httpx.post(f"{server.url}/v1/completions", json=body).raise_for_status().json()
    assert seen["text"] == seen["streamed"] == seen["final"] == ours["choices"][0]["text"]
    assert seen["tokens"] == len(seen["token_ids"]) == ours["usage"]["completion_tokens"]
    assert seen["prefill"] == ours["usage"]["prompt_tokens"]
    assert seen["finish_reason"] in {"length", "eos_token"}
    assert seen["base"] != seen["text"]
    assert len(set(seen["seeded"])) == 1
    assert seen["full"].startswith("Hello")
    assert seen["error"]["name"] == "NotFoundError"
    assert "no-such-adapter" in seen["error"]["message"]
