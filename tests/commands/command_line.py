"""Running `switchyard` commands in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from server.cli import main


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What was written with `--json`: one JSON value and nothing else."""
        return json.loads(self.stdout)


def runner(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """A function that runs one command line."""

    def run(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        return Finished(status, captured.out, captured.err)

    return run
