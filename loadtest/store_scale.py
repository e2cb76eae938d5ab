"""`python -m loadtest.store_scale`: a store with many versions, and how long list, resolve and publish take in it.

The name documents and version folders are written as the store writes them, the folders without weights. Every figure
is of this process, on a store that it has just opened; memory is what the process holds beyond its start.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save_file

from adapters_store import AdapterStore, parse_adapter_name
from adapters_store.collection import CollectionRules, collect
from adapters_store.metadata import AdapterMetadata
from adapters_store.name_document import NameDocument, StoredMove, StoredVersion
from adapters_store.names import AdapterRef
from adapters_store.verification import verify

PAGE = 100
RESOLVES = 20_000
PUBLISHES = 100
_MODULE = "model.layers.0.self_attn.q_proj"
_PUBLISHED = "2026-01-01T00:00:00.000Z"
_METADATA = AdapterMetadata(
    method="lora",
    rank_min=8,
    rank_max=16,
    modules_by_rank={8: 120, 16: 90},
    parameters=4_884_480,
    tensor_bytes=9_768_960,
    dtype="BF16",
    base_name="HuggingFaceTB/SmolLM2-135M",
    target_modules=("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
)


def scale(versions: int, names: int) -> dict[str, Any]:
    """Fill a store in another process, and measure it in this one."""
    folder = Path(tempfile.mkdtemp(prefix="switchyard-scale-"))
    try:
        filling = multiprocessing.get_context("spawn").Process(target=fill, args=(folder / "store", versions, names))
        filling.start()
        filling.join()
        assert filling.exitcode == 0
        return measure(folder / "store", names)
    finally:
        shutil.rmtree(folder)


def fill(root: Path, versions: int, names: int) -> None:
    """Write a store of so many versions, spread evenly over names."""
    store = AdapterStore(root)
    for number in range(names):
        name = _name(number)
        digests = [_digest(number, version) for version in range(versions // names)]
        document = NameDocument(
            name=name,
            versions=tuple(StoredVersion(digest=d, created=_PUBLISHED, metadata=_METADATA) for d in digests),
        )
        for digest in digests:
            document = document.with_move("latest", StoredMove(digest=digest, moved=_PUBLISHED, reason="publish"))
            store.versions.path_of(digest).mkdir(parents=True)
        document = document.with_move("prod", StoredMove(digest=digests[0], moved=_PUBLISHED, reason="promote"))
        store.names.write(document)


def measure(root: Path, count: int) -> dict[str, Any]:
    """Figures in milliseconds, and memory in MB, of a store with so many names."""
    names = [_name(number) for number in range(count)]
    chance = random.Random(0)
    start = _resident()
    figures: dict[str, Any] = {}
    store = AdapterStore(root)
    refs = [AdapterRef(parse_adapter_name(name)) for name in names]

    figures["first page, cold"] = _milliseconds(lambda: store.page(PAGE))
    time.sleep(1.1)  # until the folder counts as settled
    store.page(PAGE)
    middle = parse_adapter_name(sorted(names)[len(names) // 2])
    figures["page, warm"] = _spread([_milliseconds(lambda: store.page(PAGE, middle)) for _ in range(50)])
    figures["resolve, cold"] = _spread([_milliseconds(lambda r=r: store.resolve(r)) for r in refs])  # type: ignore[misc]
    figures["resolve, warm"] = _spread(
        [_milliseconds(lambda: store.resolve(chance.choice(refs))) for _ in range(RESOLVES)]
    )
    figures["list of all, warm"] = _milliseconds(store.list)
    figures["memory, all names read"] = _resident() - start
    figures["publish"] = _spread(list(_publishes(store, names, chance)))
    figures["page, after a publish"] = _milliseconds(lambda: store.page(PAGE, middle))
    for _ in range(5):
        store.list()
        for _ in range(RESOLVES):
            store.resolve(chance.choice(refs))
    figures["memory, five rounds later"] = _resident() - start
    figures["collection, dry"] = _milliseconds(lambda: collect(store, CollectionRules(grace=0.0)))
    figures["verification, without weights"] = _milliseconds(lambda: verify(store))
    figures["memory, at the end"] = _resident() - start
    return figures


def _publishes(store: AdapterStore, names: list[str], chance: random.Random) -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": [_MODULE], "task_type": "CAUSAL_LM"}
        (source / "adapter_config.json").write_text(json.dumps(config))
        for number in range(PUBLISHES):
            factors = {name: np.full((2, 2), number, np.float32) for name in ("A", "B")}
            tensors = {f"base_model.model.{_MODULE}.lora_{name}.weight": factor for name, factor in factors.items()}
            save_file(tensors, source / "adapter_model.safetensors")
            name = parse_adapter_name(chance.choice(names))
            yield _milliseconds(lambda name=name: store.publish(name, source))  # type: ignore[misc]


def _name(number: int) -> str:
    return f"team-{number % 40}/adapter-{number:05}"


def _digest(name: int, version: int) -> str:
    return f"sha256:{hashlib.sha256(f'{name}/{version}'.encode()).hexdigest()}"


def _milliseconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1e3


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=100_000)
    parser.add_argument("--names", type=int, default=2_000)
    asked = parser.parse_args()
    sys.stdout.write(msgspec.json.format(json.dumps(scale(asked.versions, asked.names))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
