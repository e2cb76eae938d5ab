"""Store workers in processes of their own, spoken to over pipes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from adapters_store.digest import directory_digest
from tests.adapters_store import store_worker
from tests.adapters_store.hand_made import write_adapter

ROOT = Path(__file__).parents[2]
SOURCES = 4
WORKERS = 3


class Died(Exception):
    """The process was killed before it answered."""


class Process:
    """A store worker behind two pipes."""

    def __init__(self, sources: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", store_worker.__name__, str(sources)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> Any:
        self.tell(do, **arguments)
        return self.answer()

    def tell(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the process says to the first thing that it was told and has not answered yet."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Died
        return json.loads(line)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Pool:
    """Three processes that live through all examples; one that was killed is replaced."""

    def __init__(self, folder: Path) -> None:
        self.sources = folder
        for seed in range(SOURCES):
            write_adapter(folder / str(seed), seed=seed)
        self.digests = [directory_digest(folder / str(seed)) for seed in range(SOURCES)]
        self.processes = [Process(folder) for _ in range(WORKERS)]

    def replace(self, number: int) -> Process:
        self.processes[number].end()
        self.processes[number] = Process(self.sources)
        return self.processes[number]

    def end(self) -> None:
        for process in self.processes:
            process.end()
