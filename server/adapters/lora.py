"""LoRA into the normal form: B A with the scale folded into B.

The scale of a module is alpha / r (LoRA, Hu et al. 2021, arXiv:2106.09685) or alpha / sqrt(r) (rsLoRA,
Kalajdzievski 2023, arXiv:2312.03732), where `rank_pattern` and `alpha_pattern` may give a module an r and an
alpha of its own.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from adapters_store.errors import InvalidAdapter
from server.adapters.normal_form import LinearForm, NormalForm

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def read_lora(
    config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, tuple[int, int]]
) -> NormalForm:
    """The normal form, in fp32, of a LoRA adapter as PEFT saves it.

    Args:
        config: the parsed `adapter_config.json`.
        tensors: the saved tensors, `lora_A` [rank, in] and `lora_B` [out, rank] per module.
        modules: full name -> (out, in) of the base's linear modules.

    Raises:
        InvalidAdapter: a tensor without a module, a module without its pair, or shapes that do not fit.
    """
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or match["module"] not in modules:
            raise InvalidAdapter(f"tensor {key!r} belongs to no linear module of the base", param=key)
        factors.setdefault(match["module"], {})[match["factor"]] = tensor
    return NormalForm({name: _linear(name, pair, modules[name], config) for name, pair in factors.items()})


def _linear(
    module: str, pair: Mapping[str, torch.Tensor], shape: tuple[int, int], config: Mapping[str, Any]
) -> LinearForm:
    a, b = pair.get("A"), pair.get("B")
    if a is None or b is None:
        missing = "lora_B" if b is None else "lora_A"
        raise InvalidAdapter(f"module {module!r} lacks its {missing} tensor", param=module)
    if (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
        raise InvalidAdapter(
            f"module {module!r} is {list(shape)} in the base, but its factors are B {list(b.shape)} and A {list(a.shape)}",
            param=module,
        )
    rank = a.shape[0]
    alpha = _pattern_value(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LinearForm(a=a.float().contiguous(), b=(b.float() * scale).contiguous())


def _pattern_value(pattern: Mapping[str, float] | None, module: str, default: float) -> float:
    """The value of the first pattern that matches the end of the module's name, as PEFT's `get_pattern_key` decides."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
