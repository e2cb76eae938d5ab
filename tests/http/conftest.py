"""One real server for all tests of a module, and adapters that fit its base."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store import AdapterStore, parse_adapter_name
from tests.http.real_server import RealServer, serving
from tests.lora_adapters import write_lora
from tests.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving(base, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def adapters(base: Path, server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`red`, `green` and `blue`, published; name -> digest."""
    store = AdapterStore(server.store)
    return {
        name: store.publish(
            parse_adapter_name(name), write_lora(base, tmp_path_factory.mktemp(name), seed=seed, strength=0.2)
        ).version.digest
        for seed, name in enumerate(("red", "green", "blue"))
    }
