"""Reading a PEFT LoRA configuration: what is served, what is refused and why.

Field names, defaults and meanings are those of `LoraConfig` in PEFT 0.21 (peft/tuners/lora/config.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters_store.errors import InvalidAdapter
from adapters_store.module_patterns import LayerSelection, MatchingDeadline, ModuleSet, PatternValues, TargetModules
from adapters_store.quoting import quoted

# Fields that change what the adapter computes in ways that are not served, whenever they are set.
_REFUSED_WHEN_SET: Final[Mapping[str, str]] = {
    "use_dora": "DoRA is not served yet: train with use_dora=False",
    "modules_to_save": "whole trained modules are not served yet: train without modules_to_save",
    "trainable_token_indices": "trained token embeddings are not served: train without trainable_token_indices",
    "lora_bias": "a bias on lora_B is not served: train with lora_bias=False",
    "layer_replication": "replicated layers need another base than the resident one: train without layer_replication",
    "fan_in_fan_out": "transposed weights (GPT-2's Conv1D) are not served: the base's modules must be linear layers",
    "target_parameters": "adapters on bare parameters (mixture-of-experts weights) are not served: use target_modules",
    "alora_invocation_tokens": "activated LoRA is not served: train without alora_invocation_tokens",
    "use_qalora": "QALoRA is not served: train with use_qalora=False",
    "monteclora_config": "MonteCLoRA is not served: train without monteclora_config",
    "use_bdlora": "block-diagonal LoRA is not served: train without use_bdlora",
    "arrow_config": "Arrow routing is not served: publish the adapters one by one",
    "kasa_config": "KaSA truncates the base's weights, which all adapters share: train without kasa_config",
}

# Fields that say how an adapter was trained, or that are read below.
_KNOWN: Final = frozenset(_REFUSED_WHEN_SET) | frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
        "velora_config",
    ]
)

_HARMLESS_INITS: Final = frozenset({"true", "false", "gaussian", "eva", "orthogonal", "mica"})
_CONVERTIBLE_INITS: Final = ("pissa", "olora", "corda", "lora_ga")

_DEFAULT_RANK: Final = 8
_DEFAULT_ALPHA: Final = 8


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A LoRA configuration that is served. `targets` is None where the configuration leaves them to PEFT."""

    rank: int
    alpha: float
    use_rslora: bool
    rank_pattern: PatternValues[int]
    alpha_pattern: PatternValues[float]
    targets: TargetModules | None
    base_name: str | None
    warnings: tuple[str, ...]

    def rank_of(self, module: str, deadline: MatchingDeadline) -> int:
        """The rank that PEFT gives a module of this full name."""
        return self.rank_pattern.value_for(module, self.rank, deadline)

    def scale_of(self, module: str, deadline: MatchingDeadline) -> float:
        """The factor before B A: alpha / r (LoRA, arXiv:2106.09685), or alpha / sqrt(r) (rsLoRA, arXiv:2312.03732)."""
        rank = self.rank_of(module, deadline)
        alpha = self.alpha_pattern.value_for(module, self.alpha, deadline)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_lora_config(config: Mapping[str, Any]) -> LoraConfig:
    """Check a configuration and take from it what serving needs.

    Raises:
        InvalidAdapter: a field is malformed or asks for what is not served; `param` names it.
    """
    _refuse_unserved(config)
    _refuse_changed_base(config.get("init_lora_weights", True))
    alpha = config.get("lora_alpha", _DEFAULT_ALPHA)
    if not _is_number(alpha):
        raise _malformed("lora_alpha", alpha, "a finite number")
    return LoraConfig(
        rank=_rank("r", config.get("r", _DEFAULT_RANK)),
        alpha=float(alpha),
        use_rslora=_boolean(config, "use_rslora"),
        rank_pattern=PatternValues.compile(
            "rank_pattern",
            {key: _rank("rank_pattern", value) for key, value in _mapping(config, "rank_pattern").items()},
        ),
        alpha_pattern=PatternValues.compile("alpha_pattern", _alphas(_mapping(config, "alpha_pattern"))),
        targets=_targets(config),
        base_name=_optional_text(config, "base_model_name_or_path"),
        warnings=_unknown_fields(config),
    )


def _refuse_unserved(config: Mapping[str, Any]) -> None:
    for field, reason in _REFUSED_WHEN_SET.items():
        if config.get(field):
            raise InvalidAdapter(f"{field} is set: {reason}", param=field)
    bias = config.get("bias", "none")
    if bias != "none":
        raise InvalidAdapter(
            f"bias is {quoted(bias)}: trained biases of the base are not served; train with bias='none'", param="bias"
        )


def _refuse_changed_base(init: object) -> None:
    """Refuse an adapter that is only right on base weights that its initialisation changed."""
    text = str(init).lower()
    if text in _HARMLESS_INITS or init is None:
        return
    if text.startswith(_CONVERTIBLE_INITS):
        fix = (
            "save the untrained adapter first, then save the trained one with "
            "`save_pretrained(..., path_initial_model_for_weight_conversion=<the untrained one>)`, "
            "which makes it plain LoRA"
        )
    elif text.startswith("loftq"):
        fix = (
            "PEFT converts LoftQ to plain LoRA only while it is made: train on the quantised base with "
            "`replace_lora_weights_loftq`, which leaves the base as it is"
        )
    else:
        raise InvalidAdapter(
            f"init_lora_weights {quoted(init)} is not known, so the base it needs is not known either; known are: "
            f"{', '.join(sorted(_HARMLESS_INITS))}",
            param="init_lora_weights",
        )
    raise InvalidAdapter(
        f"init_lora_weights is {quoted(init)}: this initialisation changes the base's weights, which all adapters "
        f"share; {fix}",
        param="init_lora_weights",
    )


def _targets(config: Mapping[str, Any]) -> TargetModules | None:
    included = _text_or_texts(config, "target_modules")
    if included is None or included == "all-linear":
        return None
    excluded = _text_or_texts(config, "exclude_modules")
    layers = config.get("layers_to_transform")
    numbers = [layers] if type(layers) is int else layers or []
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise _malformed("layers_to_transform", layers, "a layer number or a list of them")
    names = _text_or_texts(config, "layers_pattern") or []
    return TargetModules(
        ModuleSet.compile("target_modules", included),
        ModuleSet.compile("exclude_modules", excluded) if excluded else None,
        LayerSelection.compile(numbers, [names] if isinstance(names, str) else names) if numbers else None,
    )


def _unknown_fields(config: Mapping[str, Any]) -> tuple[str, ...]:
    unknown = sorted(field for field, value in config.items() if field not in _KNOWN and value)
    if not unknown:
        return ()
    return (f"adapter_config.json sets fields that are not known here and were ignored: {quoted(unknown)}",)


def _alphas(values: Mapping[str, Any]) -> dict[str, float]:
    for value in values.values():
        if not _is_number(value):
            raise _malformed("alpha_pattern", value, "a finite number for each pattern")
    return {key: float(value) for key, value in values.items()}


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _rank(field: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise _malformed(field, value, "a whole number from 1 up")
    return value


def _boolean(config: Mapping[str, Any], field: str) -> bool:
    value = config.get(field, False)
    if value is not None and not isinstance(value, bool):
        raise _malformed(field, value, "true or false")
    return bool(value)


def _mapping(config: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = config.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(field, value, "an object")
    return value


def _optional_text(config: Mapping[str, Any], field: str) -> str | None:
    value = config.get(field)
    if value is not None and not isinstance(value, str):
        raise _malformed(field, value, "text")
    return value or None


def _text_or_texts(config: Mapping[str, Any], field: str) -> str | list[str] | None:
    value = config.get(field)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _malformed(field, value, "text or a list of texts")


def _malformed(field: str, value: object, expected: str) -> InvalidAdapter:
    return InvalidAdapter(f"{field} in adapter_config.json is {quoted(value)}; it must be {expected}", param=field)
