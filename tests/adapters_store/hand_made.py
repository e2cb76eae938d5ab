"""Adapters written byte by byte, so that each can be wrong in exactly one way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adapters_store.base_description import BaseDescription

QUERY = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"

BASE = BaseDescription(
    "org/tiny", "LlamaForCausalLM", {QUERY: (8, 8), "model.layers.1.self_attn.q_proj": (8, 8), DOWN: (8, 16)}
)

CONFIG: Mapping[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "org/tiny",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": [QUERY, "down_proj"],
    "bias": "none",
    "init_lora_weights": True,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as a file holds it: safetensors dtype, shape and raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def float32(*shape: int, seed: int = 0) -> Tensor:
    """Random values, different for every seed."""
    values = np.random.default_rng(seed).standard_normal(shape).astype("<f4")
    return Tensor("F32", shape, values.tobytes())


def from_array(dtype: str, array: npt.NDArray[Any]) -> Tensor:
    """An array's own bytes under any dtype name (bfloat16 comes as its bits)."""
    return Tensor(dtype, array.shape, array.tobytes())


def lora_pair(module: str, out_features: int, in_features: int, rank: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """The two factors of a module under PEFT's names."""
    return {
        f"base_model.model.{module}.lora_A.weight": float32(rank, in_features, seed=seed),
        f"base_model.model.{module}.lora_B.weight": float32(out_features, rank, seed=seed + 1),
    }


def lora_tensors(seed: int = 0) -> dict[str, Tensor]:
    """Two adapted modules of BASE, at the rank that CONFIG says."""
    return lora_pair(QUERY, 8, 8, seed=seed) | lora_pair(DOWN, 8, 16, seed=seed + 2)


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The header of a file that holds the tensors back to back."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in tensors.items():
        end = begin + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    return header


def safetensors_bytes(tensors: Mapping[str, Tensor], header: object = None) -> bytes:
    """A whole file; `header` replaces the right one (text is taken as it is)."""
    wanted = header_of(tensors) if header is None else header
    text = wanted if isinstance(wanted, bytes) else json.dumps(wanted).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensor.data for tensor in tensors.values())


def write_adapter(
    directory: Path,
    *,
    config: Mapping[str, Any] | bytes | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Path:
    """Write an adapter that fits BASE, but for what is given: fields over CONFIG's, other tensors."""
    directory.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, bytes) else json.dumps({**CONFIG, **(config or {})}).encode()
    (directory / "adapter_config.json").write_bytes(text)
    weights = safetensors_bytes(lora_tensors(seed) if tensors is None else tensors)
    (directory / "adapter_model.safetensors").write_bytes(weights)
    return directory
