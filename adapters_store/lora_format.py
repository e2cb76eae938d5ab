"""LoRA as PEFT saves it: pairs of factors, bound to modules of the base."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters_store.base_description import BaseDescription
from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.lora_config import LoraConfig, read_lora_config
from adapters_store.metadata import AdapterMetadata
from adapters_store.module_patterns import MatchingDeadline
from adapters_store.quoting import quoted
from adapters_store.safetensors_file import SafetensorsFile, TensorInfo

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")
_LARGEST_F32: Final = 3.4028234663852886e38
_EXPECTED: Final = "base_model.model.<module>.lora_A.weight or base_model.model.<module>.lora_B.weight"

# Part of a key that is not LoRA's, and what it tells.
_FOREIGN_KEYS: Final[Mapping[str, str]] = {
    "lora_magnitude_vector": "it belongs to DoRA, which is not served yet",
    "lora_embedding_": "adapters on embeddings are not served: take the embedding out of target_modules",
    "base_layer": "it is a copy of a weight of the base: save with save_pretrained(..., save_embedding_layers=False)",
    "lora_E": "it belongs to AdaLoRA, which is not served yet",
    "lora_B.bias": "a bias on lora_B is not served: train with lora_bias=False",
    "lora_A.default.": "it holds an adapter's name: save with PEFT's `save_pretrained`, not with `state_dict()`",
    "lora_B.default.": "it holds an adapter's name: save with PEFT's `save_pretrained`, not with `state_dict()`",
}


@dataclass(frozen=True, slots=True)
class _Factors:
    """The two factors of one module: `a` is [rank, in_features], `b` is [out_features, rank]."""

    module: str
    a: TensorInfo
    b: TensorInfo

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def check_lora(
    config: Mapping[str, Any], weights: SafetensorsFile, base: BaseDescription | None, limits: Limits
) -> AdapterMetadata:
    """Check a LoRA adapter's configuration and tensor shapes against each other, the base and the limits.

    Raises:
        InvalidAdapter: something does not fit; `param` names the field or the tensor.
        AdapterTooLarge: a rank is beyond the limit.
    """
    lora = read_lora_config(config)
    factors = _pair(weights.tensors)
    deadline = MatchingDeadline()
    for pair in factors:
        _check_shapes(pair)
        if base is not None:
            _check_binding(pair, base)
        _check_rank(pair, lora, limits, deadline)
        _check_scale(pair, lora, deadline)
        if lora.targets is not None and not lora.targets.matches(pair.module, deadline):
            raise InvalidAdapter(
                f"tensor {quoted(pair.a.name)} adapts a module that target_modules does not name, so PEFT would not "
                "apply it: name the module there, or leave the tensor out",
                param=pair.a.name,
            )
    ranks = Counter(pair.rank for pair in factors)
    return AdapterMetadata(
        method="lora",
        rank_min=min(ranks),
        rank_max=max(ranks),
        modules_by_rank=dict(sorted(ranks.items())),
        parameters=sum(tensor.elements for tensor in weights.tensors.values()),
        tensor_bytes=sum(tensor.size_bytes for tensor in weights.tensors.values()),
        dtype="+".join(sorted({tensor.dtype for tensor in weights.tensors.values()})),
        base_name=lora.base_name,
        target_modules=tuple(sorted({pair.module.rpartition(".")[2] for pair in factors})),
        warnings=lora.warnings + _untouched_targets(factors, lora, base, deadline),
    )


def _pair(tensors: Mapping[str, TensorInfo]) -> list[_Factors]:
    """The factors of every module, in the file's order."""
    found: dict[str, dict[str, TensorInfo]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or "base_layer" in key:
            hint = next((why for part, why in _FOREIGN_KEYS.items() if part in key), f"expected {_EXPECTED}")
            raise InvalidAdapter(f"tensor {quoted(key)} cannot be served: {hint}", param=key)
        found.setdefault(match["module"], {})[match["factor"]] = tensor
    if not found:
        raise InvalidAdapter("adapter_model.safetensors holds no tensor: the adapter was saved empty")
    for module, factors in found.items():
        if len(factors) != 2:
            (present,) = factors
            missing = "B" if present == "A" else "A"
            raise InvalidAdapter(
                f"module {quoted(module)} has lora_{present} and no lora_{missing}: the adapter was saved in part",
                param=factors[present].name,
            )
    return [_Factors(module, factors["A"], factors["B"]) for module, factors in found.items()]


def _check_shapes(pair: _Factors) -> None:
    for tensor in (pair.a, pair.b):
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            raise InvalidAdapter(
                f"tensor {quoted(tensor.name)} has shape {list(tensor.shape)} and should be a matrix; "
                "gather sharded parameters (DeepSpeed ZeRO-3, FSDP) before saving",
                param=tensor.name,
            )
    if pair.b.shape[1] != pair.rank:
        raise InvalidAdapter(
            f"tensor {quoted(pair.b.name)} has rank {pair.b.shape[1]} and its lora_A has rank {pair.rank}",
            param=pair.b.name,
        )


def _check_binding(pair: _Factors, base: BaseDescription) -> None:
    shape = base.modules.get(pair.module)
    if shape is None:
        raise InvalidAdapter(
            f"tensor {quoted(pair.a.name)} adapts {quoted(pair.module)}, and the base {base.name} "
            f"({base.architecture}) has no linear module of that name: the adapter was trained for another model",
            param=pair.a.name,
        )
    out_features, in_features = shape
    for tensor, found, expected in (
        (pair.a, pair.a.shape[1], in_features),
        (pair.b, pair.b.shape[0], out_features),
    ):
        if found != expected:
            side = "inputs" if tensor is pair.a else "outputs"
            raise InvalidAdapter(
                f"tensor {quoted(tensor.name)} of shape {list(tensor.shape)} is for {found} {side}, and that module "
                f"of the base {base.name} has {expected}: the adapter was trained for another model",
                param=tensor.name,
            )


def _check_rank(pair: _Factors, lora: LoraConfig, limits: Limits, deadline: MatchingDeadline) -> None:
    if pair.rank > limits.max_rank:
        raise AdapterTooLarge(
            f"tensor {quoted(pair.a.name)} has rank {pair.rank}, more than the {limits.max_rank} allowed: "
            "train with a smaller r, or raise the limit",
            param=pair.a.name,
        )
    expected = lora.rank_of(pair.module, deadline)
    if pair.rank != expected:
        raise InvalidAdapter(
            f"tensor {quoted(pair.a.name)} has rank {pair.rank}, and r and rank_pattern in adapter_config.json say "
            f"{expected}: the two files are not of the same adapter",
            param=pair.a.name,
        )


def _check_scale(pair: _Factors, lora: LoraConfig, deadline: MatchingDeadline) -> None:
    scale = lora.scale_of(pair.module, deadline)
    if abs(scale) > _LARGEST_F32:
        raise InvalidAdapter(
            f"lora_alpha gives module {quoted(pair.module)} the scale {scale:g}, which F32 cannot hold",
            param="lora_alpha",
        )


def _untouched_targets(
    factors: list[_Factors], lora: LoraConfig, base: BaseDescription | None, deadline: MatchingDeadline
) -> tuple[str, ...]:
    """A warning where the configuration names modules of the base that no tensor adapts."""
    if base is None or lora.targets is None:
        return ()
    adapted = {pair.module for pair in factors}
    targets = lora.targets
    untouched = [name for name in base.modules if name not in adapted and targets.matches(name, deadline)]
    if not untouched:
        return ()
    return (
        f"target_modules names {len(untouched)} modules without tensors, the first {untouched[0]}: "
        "they stay as in the base",
    )
