"""Random LoRA adapters to load a server with: real PEFT directories whose answers mean nothing."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from adapters_store import AdapterStore, BaseDescription, parse_adapter_name
from adapters_store.errors import StoreError, UnknownAdapter
from adapters_store.names import AdapterRef

RANKS = (8, 16, 32)
_ALPHA_PER_RANK = 2
_B_DEVIATION = 0.02
_POOL = 2**22
_STRIDE = 2_654_435_761  # odd, so that different seeds begin at different places of the pool
_PUBLISHERS = 4  # a publication waits for the disk most of its time


@dataclass(frozen=True)
class RandomAdapter:
    """A LoRA adapter on linear modules of every decoder layer; equal values give equal files.

    `targets` are the last parts of the modules' names (`q_proj`); none are all of them.
    """

    name: str
    rank: int
    seed: int
    targets: tuple[str, ...] = ()

    def write(self, directory: Path, base: BaseDescription) -> None:
        """Write the PEFT directory: `adapter_config.json` and fp16 `adapter_model.safetensors`.

        A (rank, in_features) is drawn with variance 1 / in_features, so that A x is of x's own size. B (out_features,
        rank) is small but not zero, so that the adapter changes the answers without breaking the model.

        Raises:
            ValueError: the base has no such modules.
        """
        modules = self._modules(base)
        noise = _Noise(self.seed)
        tensors: dict[str, NDArray[np.float16]] = {}
        for module, (out_features, in_features) in modules.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = noise.draw((self.rank, in_features), in_features**-0.5)
            tensors[f"{key}.lora_B.weight"] = noise.draw((out_features, self.rank), _B_DEVIATION)
        directory.mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        (directory / "adapter_config.json").write_text(json.dumps(self._config(base, modules), indent=2) + "\n")

    def _modules(self, base: BaseDescription) -> dict[str, tuple[int, int]]:
        modules = layer_modules(base.modules)
        known = {name.rsplit(".", 1)[-1] for name in modules}
        if unknown := sorted(set(self.targets) - known):
            raise ValueError(f"target modules: {base.name} has no {', '.join(unknown)}, but {', '.join(sorted(known))}")
        wanted = self.targets or known
        return {name: shape for name, shape in modules.items() if name.rsplit(".", 1)[-1] in wanted}

    def _config(self, base: BaseDescription, modules: Mapping[str, tuple[int, int]]) -> dict[str, object]:
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.name,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.rank * _ALPHA_PER_RANK,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "target_modules": sorted({module.rsplit(".", 1)[-1] for module in modules}),
        }


def parse_ranks(text: str) -> tuple[int, ...]:
    """A list of ranks, such as `4,8`.

    Raises:
        ValueError: the text is not a list of positive numbers; the message names the option.
    """
    try:
        ranks = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--ranks: {text!r} is not a list of numbers such as 4,8") from error
    if min(ranks) < 1:
        raise ValueError("--ranks: every rank must be positive")
    return ranks


def random_adapters(
    count: int, seed: int = 0, ranks: Sequence[int] = RANKS, targets: tuple[str, ...] = ()
) -> tuple[RandomAdapter, ...]:
    """`count` different adapters named `load-000`, `load-001`, …, their ranks cycling through `ranks`."""
    return tuple(
        RandomAdapter(f"load-{index:03}", ranks[index % len(ranks)], seed * 1_000_003 + index, targets)
        for index in range(count)
    )


def published_adapters(
    root: Path,
    adapters: Iterable[RandomAdapter],
    *,
    keep: bool = False,
    on_published: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Publish adapters to the store at `root`, whose base a server has described, and return their digests by name.

    With `keep`, a name that the store has already with the same rank keeps its version. `on_published` is called after
    each, from any thread.

    Raises:
        StoreError: no server has described its base there.
        ValueError: an adapter targets a module that the base does not have.
    """
    store = AdapterStore(root)
    base = store.base()
    if base is None:
        raise StoreError(f"{root} does not say which base it is for: start `switchyard serve --store {root}` once")

    def publish(adapter: RandomAdapter) -> tuple[str, str]:
        digest = _kept(store, adapter) if keep else None
        if digest is None:
            with tempfile.TemporaryDirectory(prefix="switchyard-adapter-") as directory:
                adapter.write(Path(directory), base)
                digest = store.publish(parse_adapter_name(adapter.name), Path(directory)).version.digest
        on_published()
        return adapter.name, digest

    with ThreadPoolExecutor(_PUBLISHERS) as publishers:
        return dict(publishers.map(publish, adapters))


def _kept(store: AdapterStore, adapter: RandomAdapter) -> str | None:
    try:
        version = store.resolve(AdapterRef(parse_adapter_name(adapter.name)))
    except UnknownAdapter:
        return None
    return version.digest if version.metadata.rank_max == adapter.rank else None


def layer_modules(modules: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The modules of the decoder layers: those with a layer number in their name, so not the output head.

    Raises:
        ValueError: there are none.
    """
    found = {name: shape for name, shape in modules.items() if any(part.isdigit() for part in name.split("."))}
    if not found:
        raise ValueError("the base has no decoder layers with linear modules")
    return found


class _Noise:
    """Normal numbers from one pool that all adapters share, read from a place that the seed decides.

    Drawing anew for each of thousands of adapters would take longer than all the rest of publishing them.
    """

    def __init__(self, seed: int) -> None:
        self._next = seed * _STRIDE % _POOL

    def draw(self, shape: tuple[int, int], deviation: float) -> NDArray[np.float16]:
        """The next numbers of the pool, scaled; it begins again where it ends."""
        size = shape[0] * shape[1]
        numbers = np.take(_pool(), np.arange(self._next, self._next + size), mode="wrap")
        self._next = (self._next + size) % _POOL
        return (numbers * np.float32(deviation)).astype(np.float16).reshape(shape)


@cache
def _pool() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)
