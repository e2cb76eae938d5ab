"""Random LoRA adapters to load a server with: real PEFT directories whose answers mean nothing."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from adapters_store import AdapterStore, BaseDescription, parse_adapter_name
from adapters_store.errors import StoreError

RANKS = (8, 16, 32)
_ALPHA_PER_RANK = 2
_B_DEVIATION = 0.02


@dataclass(frozen=True)
class RandomAdapter:
    """A LoRA adapter on every linear module of every decoder layer; equal values give equal files."""

    name: str
    rank: int
    seed: int

    def write(self, directory: Path, base: BaseDescription) -> None:
        """Write the PEFT directory: `adapter_config.json` and fp16 `adapter_model.safetensors`.

        A (rank, in_features) is drawn with variance 1 / in_features, so that A x is of x's own size. B (out_features,
        rank) is small but not zero, so that the adapter changes the answers without breaking the model.
        """
        modules = layer_modules(base.modules)
        random = np.random.default_rng(self.seed)
        tensors: dict[str, NDArray[np.float16]] = {}
        for module, (out_features, in_features) in modules.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = _normal(random, (self.rank, in_features), in_features**-0.5)
            tensors[f"{key}.lora_B.weight"] = _normal(random, (out_features, self.rank), _B_DEVIATION)
        directory.mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        (directory / "adapter_config.json").write_text(json.dumps(self._config(base, modules), indent=2) + "\n")

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


def random_adapters(count: int, seed: int = 0) -> tuple[RandomAdapter, ...]:
    """`count` different adapters named `load-000`, `load-001`, …, their ranks cycling through `RANKS`."""
    return tuple(
        RandomAdapter(name=f"load-{index:03}", rank=RANKS[index % len(RANKS)], seed=seed * 1_000_003 + index)
        for index in range(count)
    )


def published_adapters(root: Path, adapters: Iterable[RandomAdapter]) -> dict[str, str]:
    """Publish adapters to the store at `root`, whose base a server has described, and return their digests by name.

    Raises:
        StoreError: no server has described its base there.
    """
    store = AdapterStore(root)
    base = store.base()
    if base is None:
        raise StoreError(f"{root} does not say which base it is for: start `switchyard serve --store {root}` once")
    digests = {}
    for adapter in adapters:
        with tempfile.TemporaryDirectory(prefix="switchyard-adapter-") as directory:
            adapter.write(Path(directory), base)
            publication = store.publish(parse_adapter_name(adapter.name), Path(directory))
        digests[adapter.name] = publication.version.digest
    return digests


def layer_modules(modules: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The modules of the decoder layers: those with a layer number in their name, so not the output head.

    Raises:
        ValueError: there are none.
    """
    found = {name: shape for name, shape in modules.items() if any(part.isdigit() for part in name.split("."))}
    if not found:
        raise ValueError("the base has no decoder layers with linear modules")
    return found


def _normal(random: np.random.Generator, shape: tuple[int, int], deviation: float) -> NDArray[np.float16]:
    return (random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)).astype(np.float16)
