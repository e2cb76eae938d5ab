"""One store, several processes and threads: changes are seen at once, and none is lost."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters_store.digest import verify_directory
from adapters_store.errors import UnknownAdapter
from adapters_store.names import AdapterName, AdapterRef, parse_adapter_name
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import write_adapter

ROOT = Path(__file__).parents[2]

# Reads lines `NAME DIRECTORY`, publishes each, and answers with its digest.
PUBLISHER = """
import sys
from pathlib import Path
from adapters_store import AdapterStore, parse_adapter_name
store = AdapterStore(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    name, directory = line.split()
    print(store.publish(parse_adapter_name(name), Path(directory)).version.digest, flush=True)
"""


class Publisher:
    """Another process that publishes what it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self.answer() == "ready"

    def tell(self, name: str, directory: Path) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {directory}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the other process died"
        return line


@contextmanager
def publisher(store: AdapterStore) -> Iterator[Publisher]:
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(store.root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Publisher(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_what_another_process_publishes_is_seen_without_a_restart(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    with pytest.raises(UnknownAdapter):
        store.resolve(AdapterRef(support))
    with publisher(store) as other:
        for seed in range(3):
            other.tell("support", write_adapter(tmp_path / f"source-{seed}", seed=seed))
            digest = other.answer()
            assert store.resolve(AdapterRef(support)).digest == digest
            assert len(store.get(support).versions) == seed + 1
        other.tell("later", tmp_path / "source-0")
        other.answer()
        assert [str(entry.name) for entry in store.list()] == ["later", "support"]


def test_a_name_deleted_elsewhere_is_gone_here(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    version = store.publish(support, write_adapter(tmp_path / "source")).version
    AdapterStore(store.root).delete(support)
    for ref in (AdapterRef(support), AdapterRef(support, digest=version.digest)):
        with pytest.raises(UnknownAdapter):
            store.resolve(ref)


def test_two_publishers_of_one_name_lose_nothing(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    rounds = 8
    sources = [write_adapter(tmp_path / f"source-{seed}", seed=seed) for seed in range(2 * rounds)]
    with publisher(store) as one, publisher(store) as two:
        for first, second in zip(sources[:rounds], sources[rounds:], strict=True):
            one.tell("support", first)
            two.tell("support", second)
        digests = {other.answer() for other in (one, two) for _ in range(rounds)}
    entry = store.get(support)
    assert {version.digest for version in entry.versions} == digests
    assert len(digests) == 2 * rounds
    for version in entry.versions:
        verify_directory(version.directory, version.digest)
    back = [entry.aliases["latest"]]
    while len(back) < 2 * rounds:
        back.append(store.rollback(support, "latest").digest)
    assert set(back) == digests


def test_two_publishers_of_one_content_share_it(store: AdapterStore, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "source")
    with publisher(store) as one, publisher(store) as two:
        for _ in range(5):
            one.tell("one", source)
            two.tell("two", source)
        digests = {other.answer() for other in (one, two) for _ in range(5)}
    assert len(digests) == 1
    for entry in store.list():
        assert len(entry.versions) == 1
        verify_directory(entry.versions[0].directory, entry.versions[0].digest)


def test_readers_see_whole_versions_while_a_name_is_republished(
    store: AdapterStore, support: AdapterName, tmp_path: Path
) -> None:
    sources = [write_adapter(tmp_path / f"source-{seed}", seed=seed) for seed in range(10)]
    store.publish(support, sources[0])
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                version = store.resolve(AdapterRef(support))
                verify_directory(version.directory, version.digest)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with publisher(store) as other:
        for source in sources[1:]:
            other.tell("support", source)
            other.answer()
    done.set()
    for reader in readers:
        reader.join(timeout=60)
    assert failures == []


def test_threads_of_one_store_lose_no_alias(store: AdapterStore, support: AdapterName, tmp_path: Path) -> None:
    store.publish(support, write_adapter(tmp_path / "source"))
    names = [f"alias-{number}" for number in range(8)]
    threads = [threading.Thread(target=store.promote, args=(AdapterRef(support), name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert set(store.get(support).aliases) == {"latest", *names}
    assert str(store.get(parse_adapter_name("support")).name) == "support"
