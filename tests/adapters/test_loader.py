"""From a directory to a form on the device: what is refused, in which words, and how loads run."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from adapters_store.digest import directory_digest
from server.adapters.loader import AdapterLoader, LoadFailure, ReadVersion
from server.adapters.normal_form import NormalForm
from server.adapters.shared_memory import SharedMemory
from server.adapters.version_reader import read_version
from server.engine.messages import AdapterVersion
from server.engine.page_pool import PagePool
from tests.adapters_store.hand_made import BASE, lora_pair, lora_tensors, safetensors_bytes, write_adapter
from tests.engine.hand_made import adapter
from tests.scripted_loader import form_of

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
Spoil = Callable[[Path], object]


def published(directory: Path) -> AdapterVersion:
    """The directory's version as it is now."""
    return AdapterVersion(name="support", digest=directory_digest(directory), directory=str(directory))


def load(
    version: AdapterVersion, *, budget_bytes: int = 2**20, dtype: torch.dtype = torch.float32
) -> NormalForm | LoadFailure:
    read = read_version(version, BASE.modules, dtype=dtype, budget_bytes=budget_bytes)
    return read.form if isinstance(read, ReadVersion) else read


def failure(outcome: NormalForm | LoadFailure) -> LoadFailure:
    assert isinstance(outcome, LoadFailure)
    return outcome


def test_an_intact_version_comes_as_it_is_stored_and_its_times_are_told_apart(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    read = read_version(version, BASE.modules, dtype=torch.bfloat16, budget_bytes=2**20)
    assert isinstance(read, ReadVersion)
    assert read.form.rank == 4
    assert {tensor.dtype for linear in read.form.linears.values() for tensor in linear.tensors()} == {torch.float32}
    assert read.read_seconds > 0
    assert read.hash_seconds > 0


def test_what_serves_is_what_was_hashed_whatever_happens_to_the_file_later(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    form = load(version)
    assert isinstance(form, NormalForm)
    before = [tensor.clone() for linear in form.linears.values() for tensor in linear.tensors()]
    weights = tmp_path / "v" / WEIGHTS_FILE
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))
    after = [tensor for linear in form.linears.values() for tensor in linear.tensors()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_changed_files_are_a_checksum_mismatch(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    write_adapter(tmp_path / "v", seed=1)
    failed = failure(load(version))
    assert failed.reason == "checksum_mismatch"
    assert version.digest in failed.detail
    assert directory_digest(tmp_path / "v") in failed.detail


def truncate(directory: Path) -> None:
    weights = directory / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-10])


def link(directory: Path) -> None:
    (directory / CONFIG_FILE).rename(directory / "elsewhere.json")
    (directory / CONFIG_FILE).symlink_to(directory / "elsewhere.json")


def foreign(directory: Path) -> None:
    (directory / WEIGHTS_FILE).write_bytes(safetensors_bytes(lora_pair("model.layers.9.mlp.gate", 8, 8)))


def remove(name: str) -> Spoil:
    return lambda directory: (directory / name).unlink()


def config(text: str) -> Spoil:
    return lambda directory: (directory / CONFIG_FILE).write_text(text)


def weights(content: bytes) -> Spoil:
    return lambda directory: (directory / WEIGHTS_FILE).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(remove(CONFIG_FILE), "adapter_config.json is missing", id="no config"),
        pytest.param(remove(WEIGHTS_FILE), "missing from the store", id="no weights"),
        pytest.param(truncate, "is truncated", id="truncated weights"),
        pytest.param(weights(b""), "header", id="empty weights"),
        pytest.param(weights(b"\x80\x04\x95pickle"), "header", id="pickled weights"),
        pytest.param(foreign, "belongs to no linear module", id="another model's module"),
        pytest.param(config("{"), "Expecting", id="config is no JSON"),
        pytest.param(config("[1]"), "JSON object", id="config is no object"),
        pytest.param(config('{"peft_type": "IA3"}'), "'IA3' is not served", id="unserved method"),
        pytest.param(link, "symbolic links", id="a link"),
    ],
)
def test_files_that_cannot_be_read_are_a_failed_load_in_words_without_paths(
    tmp_path: Path, spoil: Spoil, says: str
) -> None:
    directory = write_adapter(tmp_path / "store" / "v")
    version = published(directory)
    spoil(directory)
    try:
        digest = directory_digest(directory)
    except OSError:
        digest = version.digest
    failed = failure(load(AdapterVersion(name="support", digest=digest, directory=str(directory))))
    assert failed.reason == "load_failed"
    assert failed.detail.startswith("support: ")
    assert says in failed.detail
    assert str(tmp_path) not in failed.detail


def test_a_missing_directory_is_a_failed_load(tmp_path: Path) -> None:
    failed = failure(load(AdapterVersion(name="support", digest="sha256:0", directory=str(tmp_path / "gone"))))
    assert failed == LoadFailure("load_failed", "support: its files are missing from the store", transient=True)


def test_an_adapter_beyond_the_whole_budget_is_too_large_and_the_message_names_the_setting(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    form = load(version)
    assert isinstance(form, NormalForm)
    needed = form.to(torch.device("cpu"), torch.float32).size_bytes
    assert isinstance(load(version, budget_bytes=needed), NormalForm)
    failed = failure(load(version, budget_bytes=needed - 1))
    assert failed.reason == "too_large"
    assert "SWITCHYARD_ADAPTER_BUDGET_BYTES" in failed.detail


def test_the_size_that_counts_is_that_of_the_factors_in_the_dtype_of_the_device(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    stored = sum(len(tensor.data) for tensor in lora_tensors().values())
    for dtype in (torch.float32, torch.bfloat16):
        needed = stored * dtype.itemsize // 4
        form = load(version, dtype=dtype, budget_bytes=needed)
        assert isinstance(form, NormalForm)
        assert form.to(torch.device("cpu"), dtype).size_bytes == needed
        assert failure(load(version, dtype=dtype, budget_bytes=needed - 1)).reason == "too_large"


def test_how_a_form_shares_pages_is_worked_out_by_the_thread_that_reads_it(tmp_path: Path) -> None:
    version = published(write_adapter(tmp_path / "v"))
    pages = PagePool(kv_floor=1, adapter_floor=8, page_bytes=4096)
    memory = SharedMemory(pages, torch.empty(1 + pages.total, 4096, dtype=torch.uint8), torch.float32)
    read = partial(read_version, version, BASE.modules, dtype=torch.float32, bytes_for=memory.bytes_for)
    outcome = read(budget_bytes=memory.floor_bytes)
    assert isinstance(outcome, ReadVersion)
    with patch("server.adapters.shared_memory.form_spans", side_effect=AssertionError("planned again")):
        assert memory.fits(outcome.form)
        assert memory.reserve(outcome.form) is not None
    refused = read(budget_bytes=memory.used_bytes - 1)
    assert isinstance(refused, LoadFailure)
    assert refused.reason == "too_large"


class Gate:
    """A load function that waits until it may end, and what it was asked for."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[str] = []

    def __call__(self, version: AdapterVersion) -> ReadVersion:
        self.asked.append(version.name)
        assert self.open.wait(10)
        return ReadVersion(form_of(1))


class Ends:
    """Counts the loads that ended."""

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(0)

    def __call__(self) -> None:
        self._semaphore.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._semaphore.acquire(timeout=10)

    @property
    def more(self) -> bool:
        return self._semaphore.acquire(timeout=0.05)


def test_one_version_is_loaded_once_however_many_threads_ask() -> None:
    gate, ends = Gate(), Ends()
    loader = AdapterLoader(gate, workers=4, on_loaded=ends)
    barrier = threading.Barrier(8)
    accepted: list[bool] = []

    def ask() -> None:
        barrier.wait()
        accepted.append(loader.start(adapter("a")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == [True] * 8
    assert "sha256:a" in loader._pending
    assert loader.peek("sha256:a") is None
    gate.open.set()
    ends.wait()
    assert loader.start(adapter("a"))
    assert not ends.more
    assert gate.asked == ["a"]
    loader.close()


def test_a_finished_load_waits_until_it_is_taken_and_may_then_be_loaded_again() -> None:
    gate, ends = Gate(), Ends()
    gate.open.set()
    loader = AdapterLoader(gate, workers=1, on_loaded=ends)
    loader.start(adapter("a"))
    ends.wait()
    (finished,) = loader.finished()
    assert loader.peek("sha256:a") is finished
    assert finished.version == adapter("a")
    assert finished.seconds >= 0
    assert loader.take("sha256:a") is finished
    assert (("sha256:a" in loader._pending), loader.finished(), loader.peek("sha256:a")) == (False, [], None)
    loader.start(adapter("a"))
    ends.wait()
    assert gate.asked == ["a", "a"]
    loader.close()


def test_loads_that_nobody_took_count_against_the_bound() -> None:
    gate, ends = Gate(), Ends()
    loader = AdapterLoader(gate, workers=1, max_pending=2, on_loaded=ends)
    assert loader.start(adapter("a"))
    assert loader.start(adapter("b"))
    assert not loader.start(adapter("c"))
    assert "sha256:c" not in loader._pending
    assert loader.start(adapter("a"))
    gate.open.set()
    ends.wait(2)
    assert not loader.start(adapter("c"))
    loader.take("sha256:a")
    assert loader.start(adapter("c"))
    ends.wait()
    loader.close()


def test_no_more_loads_run_at_a_time_than_there_are_workers() -> None:
    gate, ends = Gate(), Ends()
    loader = AdapterLoader(gate, workers=2, on_loaded=ends)
    for name in ("a", "b", "c"):
        loader.start(adapter(name))
    assert not ends.more
    assert sorted(gate.asked) == ["a", "b"]
    gate.open.set()
    ends.wait(3)
    loader.close()


def test_an_error_that_nobody_foresaw_is_a_failed_load_in_words_without_paths() -> None:
    def load(version: AdapterVersion) -> ReadVersion:
        raise KeyError(f"{version.directory}/adapter_config.json")

    ends = Ends()
    loader = AdapterLoader(load, workers=1, on_loaded=ends)
    loader.start(adapter("a"))
    ends.wait()
    failed = failure(loader.take("sha256:a").outcome)
    assert failed.reason == "load_failed"
    assert failed.detail.startswith("a: the load failed with KeyError")
    assert adapter("a").directory not in failed.detail
    loader.close()


def test_closing_waits_for_the_running_load_and_starts_no_queued_one() -> None:
    gate, ends = Gate(), Ends()
    loader = AdapterLoader(gate, workers=1, on_loaded=ends)
    loader.start(adapter("a"))
    loader.start(adapter("b"))
    while not gate.asked:
        assert not ends.more
    closing = threading.Thread(target=loader.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    gate.open.set()
    closing.join(10)
    assert not closing.is_alive()
    assert gate.asked == ["a"]
    assert loader.peek("sha256:a") is not None
