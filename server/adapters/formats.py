"""An adapter directory into its normal form: one reader per PEFT method."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from adapters_store.errors import InvalidAdapter
from server.adapters.lora import read_lora
from server.adapters.normal_form import NormalForm

Modules = Mapping[str, tuple[int, int]]
Reader = Callable[[Mapping[str, Any], Mapping[str, torch.Tensor], Modules], NormalForm]

READERS: Mapping[str, Reader] = {"LORA": read_lora}


def read_adapter(directory: Path, modules: Modules) -> NormalForm:
    """Read a PEFT directory into its normal form, in fp32 on the CPU.

    Raises:
        InvalidAdapter: the method has no reader, or the tensors do not fit the base.
        OSError, ValueError, SafetensorError: files that are missing or malformed.
    """
    config = json.loads((directory / "adapter_config.json").read_text())
    if not isinstance(config, dict):
        raise InvalidAdapter("adapter_config.json holds no JSON object", param="adapter_config.json")
    method = str(config.get("peft_type"))
    reader = READERS.get(method)
    if reader is None:
        raise InvalidAdapter(f"PEFT method {method!r} is not served; known: {', '.join(READERS)}", param="peft_type")
    # Not `load_file`: its tensors are mapped, so a file changed or cut later would change, or end, the engine.
    tensors = load((directory / "adapter_model.safetensors").read_bytes())
    return reader(config, tensors, modules)
