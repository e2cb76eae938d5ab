"""Fixtures of the command line's tests."""

import logging
from collections.abc import Callable, Iterator
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


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`serve` sets logging up for its process, which here is also that of other tests."""
    loggers = [logging.getLogger(name) for name in (None, "server", "adapters_store")]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    loggers[0].handlers[:] = handlers
