"""An adapter directory into its normal form: one reader per PEFT method."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import load

from adapters_store.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from adapters_store.errors import InvalidAdapter
from server.adapters.lora import read_lora
from server.adapters.normal_form import NormalForm

Modules = Mapping[str, tuple[int, int]]
Reader = Callable[[Mapping[str, Any], Mapping[str, torch.Tensor], Modules], NormalForm]

READERS: Mapping[str, Reader] = {"LORA": read_lora}


def read_adapter(files: Mapping[str, bytes], modules: Modules) -> NormalForm:
    """Read the files of a PEFT directory, by name, into its normal form, in fp32 in host memory.

    Raises:
        InvalidAdapter: the method has no reader, or the tensors do not fit the base.
        ValueError, SafetensorError: files that are malformed.
    """
    config = json.loads(files[CONFIG_FILE])
    if not isinstance(config, dict):
        raise InvalidAdapter(f"{CONFIG_FILE} holds no JSON object", param=CONFIG_FILE)
    method = str(config.get("peft_type"))
    reader = READERS.get(method)
    if reader is None:
        raise InvalidAdapter(f"PEFT method {method!r} is not served; known: {', '.join(READERS)}", param="peft_type")
    return reader(config, load(files[WEIGHTS_FILE]), modules)
