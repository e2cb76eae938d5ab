"""What is known of an adapter version without reading its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters_store.adapter_prompting import PromptingSummary


@dataclass(frozen=True, slots=True)
class AdapterMetadata:
    """The result of a validation, kept with the version.

    `method` is the adapter method in lower case (`lora`). `modules_by_rank` counts adapted modules by their
    rank; `rank_min` and `rank_max` are its smallest and largest key. `parameters` counts elements of all
    tensors and `tensor_bytes` their bytes at rest. `dtype` is safetensors' name (`F32`, `F16`, `BF16`), joined
    by `+` where tensors differ. `base_name` is what the adapter's configuration calls its base.
    `target_modules` are the last parts of the adapted modules' names, sorted. `prompting` is what the version brings
    beside its weights, None where that is nothing.
    """

    method: str
    rank_min: int
    rank_max: int
    modules_by_rank: Mapping[int, int]
    parameters: int
    tensor_bytes: int
    dtype: str
    base_name: str | None
    target_modules: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    prompting: PromptingSummary | None = None
