"""LoRA into the normal form: B A, and the scale of each module.

The scale of each module, alpha / r or alpha / sqrt(r) with its patterns, is `LoraConfig.scale_of`: the store reads
the same configuration when it validates an adapter.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from adapters_store.errors import InvalidAdapter
from adapters_store.lora_config import read_lora_config
from adapters_store.module_patterns import MatchingDeadline
from server.adapters.normal_form import LinearForm, NormalForm

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def read_lora(
    config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, tuple[int, int]]
) -> NormalForm:
    """The normal form of a LoRA adapter as PEFT saves it; its tensors are those that were given, not copies.

    Args:
        config: the parsed `adapter_config.json`.
        tensors: the saved tensors, `lora_A` [rank, in] and `lora_B` [out, rank] per module.
        modules: full name -> (out, in) of the base's linear modules.

    Raises:
        InvalidAdapter: a tensor without a module, a module without its pair, shapes that fit neither the base nor
            the configured rank, or a configuration that is not served.
    """
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or match["module"] not in modules:
            raise InvalidAdapter(f"tensor {key!r} belongs to no linear module of the base", param=key)
        factors.setdefault(match["module"], {})[match["factor"]] = tensor
    lora, deadline = read_lora_config(config), MatchingDeadline()
    return NormalForm(
        {
            name: _linear(
                name, pair, modules[name], rank=lora.rank_of(name, deadline), scale=lora.scale_of(name, deadline)
            )
            for name, pair in factors.items()
        }
    )


def _linear(
    module: str, pair: Mapping[str, torch.Tensor], shape: tuple[int, int], *, rank: int, scale: float
) -> LinearForm:
    a, b = pair.get("A"), pair.get("B")
    if a is None or b is None:
        missing = "lora_B" if b is None else "lora_A"
        raise InvalidAdapter(f"module {module!r} lacks its {missing} tensor", param=module)
    if (*b.shape,) != (shape[0], rank) or (*a.shape,) != (rank, shape[1]):
        raise InvalidAdapter(
            f"module {module!r} is {list(shape)} in the base and has the rank {rank} by its configuration, but its "
            f"factors are B {list(b.shape)} and A {list(a.shape)}",
            param=module,
        )
    return LinearForm(a=a.contiguous(), b=b.contiguous(), scale=scale)
