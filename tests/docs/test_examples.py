"""The commands and programs of the documentation run, as they stand there, against a real server.

Of a page run, from top to bottom: shell blocks that begin with `curl`, `switchyard` or `cat >`, and Python blocks that
make an OpenAI client. A block behind a comment `<!-- not run: why -->` is left out, and so is `switchyard serve`.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_store import AdapterStore, parse_adapter_name
from adapters_store.names import AdapterRef
from tests.http.real_server import RealServer, serving
from tests.import_graph import ROOT
from tests.lora_adapters import write_lora
from tests.tiny_models import write_tiny_model

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")])
WRITTEN_URL = "http://127.0.0.1:8000"
PUBLISHED = ("support", "greeting", "french-dates")
"""Adapters that pages speak of as being there: two versions, `prod` at the older one."""

DIRECTORIES = ("path/to/adapter", "adapter", "greeting", "server/demo/adapters/french-dates", "french")
"""Where pages say that an adapter lies."""

OTHER_DIRECTORY = "server/demo/adapters/german-dates"
"""Where pages say that another one lies."""

PLACES = {"/srv/adapters": "", "/data/adapters": "", "/var/lib/switchyard": "adapters"}
"""What pages call by an absolute path, and where it is here."""

_BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?^```(?P<kind>sh|python)\n(?P<code>.*?)^```$", re.M | re.S)
_COMMAND = re.compile(r"(?:#.*\n)*(?:export .*\n)*(?:curl|cat >|(?:\.venv/bin/)?switchyard (?!serve))")
_PROLOGUE = """
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --max-time 60 "$@"; }
switchyard() { .venv/bin/switchyard "$@"; }
"""


@dataclass(frozen=True)
class Example:
    """One block of a page that can be run."""

    line: int
    kind: str
    code: str


def examples(page: Path) -> list[Example]:
    """What a page shows that can be run here, in its order."""
    text = page.read_text()
    return [
        Example(text.count("\n", 0, found.start()) + 1, found["kind"], found["code"])
        for found in _BLOCK.finditer(text)
        if not found["skip"]
        and ("OpenAI(" in found["code"] if found["kind"] == "python" else _COMMAND.match(found["code"]))
    ]


RUNNABLE = [page for page in PAGES if examples(page)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealServer, Path]]:
    """A server, and a directory in which the pages' paths mean something."""
    directory = tmp_path_factory.mktemp("desk")
    base = write_tiny_model("llama", directory / "base")
    with serving(base, directory, adapter_roots=directory) as server:
        older = write_lora(base, directory / "older", seed=2, strength=0.2)
        adapter = write_lora(base, directory / "made", seed=1, strength=0.2)
        (directory / "adapters").symlink_to(server.store)
        (directory / ".venv").symlink_to(Path(sys.prefix))
        for place in DIRECTORIES:
            (directory / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(adapter, directory / place)
        shutil.copytree(older, directory / OTHER_DIRECTORY)
        store = AdapterStore(server.store)
        for name in map(parse_adapter_name, PUBLISHED):
            store.publish(name, older)
            store.promote(AdapterRef(name))
            store.publish(name, adapter)
        yield server, directory


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page: Path, desk: tuple[RealServer, Path]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    server, directory = desk
    _clear(AdapterStore(server.store))
    for example in examples(page):
        code = _here(example.code, server.url, directory)
        command = ["bash", "-c", _PROLOGUE + code] if example.kind == "sh" else [sys.executable, "-c", code]
        ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
        where = f"{page.relative_to(ROOT)}:{example.line}"
        assert ran.returncode == 0, f"{where}\n{example.code}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
        assert ran.stdout.strip(), f"{where} says nothing"


def _clear(store: AdapterStore) -> None:
    """Take away what another page published, so that each begins with the same store."""
    for entry in store.list():
        if str(entry.name) not in PUBLISHED:
            store.delete(entry.name)


def _here(code: str, url: str, directory: Path) -> str:
    """A block's code with the addresses of this run."""
    code = code.replace(WRITTEN_URL, url)
    for place, here in PLACES.items():
        code = code.replace(place, str(directory / here))
    return code


def test_every_page_with_a_request_is_run() -> None:
    silent = [page for page in PAGES if "curl http" in page.read_text() and page not in RUNNABLE]
    assert silent == []
