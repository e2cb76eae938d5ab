"""Fixtures of the HTTP layer's tests."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from adapters_store import AdapterStore
from tests.api.harness import Bench
from tests.api.tiny_tokenizer import write_tokenizer


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's directory, as far as the HTTP layer reads it: tokenizer and chat template."""
    return write_tokenizer(tmp_path_factory.mktemp("base"))


@pytest.fixture
def bench(base_directory: Path, tmp_path: Path) -> Bench:
    """A base and an empty store."""
    tokenizer = Tokenizer.from_file(str(base_directory / "tokenizer.json"))
    return Bench(base_directory, tokenizer, AdapterStore(tmp_path / "store"), tmp_path)
