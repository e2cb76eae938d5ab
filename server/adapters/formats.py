"""An adapter directory into its normal form: one reader per PEFT method."""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from adapters_store.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from adapters_store.errors import InvalidAdapter
from adapters_store.safetensors_file import tensors_in
from server.adapters.lora import read_lora
from server.adapters.normal_form import NormalForm

Modules = Mapping[str, tuple[int, int]]
Reader = Callable[[Mapping[str, Any], Mapping[str, torch.Tensor], Modules], NormalForm]

READERS: Mapping[str, Reader] = {"LORA": read_lora}


_DTYPES: Mapping[str, torch.dtype] = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_adapter(files: Mapping[str, memoryview], modules: Modules) -> NormalForm:
    """Read the files of a PEFT directory, by name, into its normal form in host memory.

    The tensors are views of the content, in the dtype that they are stored in: nothing is copied.

    Raises:
        InvalidAdapter: the method has no reader, or the tensors do not fit the base.
        ValueError: files that are malformed.
    """
    config = json.loads(bytes(files[CONFIG_FILE]))
    if not isinstance(config, dict):
        raise InvalidAdapter(f"{CONFIG_FILE} holds no JSON object", param=CONFIG_FILE)
    method = str(config.get("peft_type"))
    reader = READERS.get(method)
    if reader is None:
        raise InvalidAdapter(f"PEFT method {method!r} is not served; known: {', '.join(READERS)}", param="peft_type")
    return reader(config, _tensors(files[WEIGHTS_FILE]), modules)


def _tensors(content: memoryview) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Neighbours of one dtype are views of one storage."""
    tensors: dict[str, torch.Tensor] = {}
    infos = sorted(tensors_in(content, WEIGHTS_FILE).values(), key=lambda info: info.begin)
    for dtype_name, neighbours in itertools.groupby(infos, key=lambda info: info.dtype):
        run, dtype = list(neighbours), _DTYPES[dtype_name]
        begin, end = run[0].begin, run[-1].end
        if begin == end:
            tensors |= {info.name: torch.empty(info.shape, dtype=dtype) for info in run}
            continue
        # A tensor may begin anywhere in a file; a processor wants numbers at multiples of their size.
        aligned = content[begin:end] if begin % dtype.itemsize == 0 else bytearray(content[begin:end])
        whole = torch.frombuffer(aligned, dtype=dtype)
        pieces = whole.split([info.elements for info in run])  # they lie back to back
        tensors |= {info.name: piece.view(info.shape) for info, piece in zip(run, pieces, strict=True)}
    return tensors
