"""Fixtures of the command line's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from adapters_store import AdapterStore
from tests.api.harness import Bench
from tests.api.tiny_tokenizer import write_tokenizer
from tests.commands.command_line import Finished, runner


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio alone."""
    return "asyncio"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run one command line in this process."""
    return runner(capsys)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A base and an empty store."""
    base = write_tokenizer(tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    return Bench(base, tokenizer, AdapterStore(tmp_path / "store"), tmp_path)
