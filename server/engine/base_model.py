"""The resident base model: from what `--base` names to a loaded 4-bit causal language model.

    source -> PreparedBase (a checkpoint directory in its final form, cached) -> PreTrainedModel

Preparing may fetch, convert and quantise, once per source; loading a prepared base takes a second.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from server.engine.base_cache import prepared_entry
from server.engine.base_conversion import dense_from_gguf, load_model, read_model_config, save_quantised
from server.engine.base_progress import Progress, SilentProgress
from server.engine.base_source import (
    DirectorySource,
    HubSource,
    Quantization,
    check_checkpoint,
    parse_source,
    stored_quantization,
)
from server.kernels.quantised_linear import Linear4bit, Params4bit

__all__ = ["PreparedBase", "linear_modules", "load_base", "prepare_base"]


@dataclass(frozen=True)
class PreparedBase:
    """A base in the form in which it is loaded.

    `directory` holds `config.json`, safetensors and `tokenizer.json`; `quantization` is how its weights are stored.
    `name` is what the base is called where no served name is set.
    """

    name: str
    directory: Path
    quantization: Quantization


def prepare_base(
    source: str, *, quantization: Quantization, cache_dir: Path, progress: Progress | None = None
) -> PreparedBase:
    """Bring the base that `source` names into its final form, or find it there from an earlier call.

    `source` is the name of a demo model, a directory, a GGUF file or a hub id. A checkpoint that is already stored
    in 4-bit, or that is to stay dense, is used where it lies; everything else becomes an entry of `cache_dir`.

    Raises:
        BaseModelError: the source cannot be found, fetched, converted or served; the message says why.
    """
    shown = progress if progress is not None else SilentProgress()
    base = parse_source(source)
    if isinstance(base, DirectorySource | HubSource):
        directory = base.materialise(cache_dir=cache_dir, progress=shown)
        check_checkpoint(directory)
        stored = stored_quantization(directory)
        read_model_config(directory)
        if stored is not None or quantization == "none":
            return PreparedBase(name=base.name, directory=directory, quantization=stored or "none")
    entry = prepared_entry(base.name, base.identify(shown), quantization=quantization, cache_dir=cache_dir)

    def build(scratch: Path) -> Path:
        checkpoint = base.materialise(cache_dir=cache_dir, progress=shown)
        if checkpoint.is_file():
            checkpoint = dense_from_gguf(checkpoint, scratch / "dense", shown)
        if quantization == "none":
            return checkpoint
        return save_quantised(checkpoint, scratch / "quantised", quantization, shown)

    return PreparedBase(name=base.name, directory=entry.fill(build, shown), quantization=quantization)


def load_base(prepared: PreparedBase, *, device: torch.device, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """Load a prepared base for inference: evaluation mode, no gradients.

    `dtype` is that of the unquantised weights and of the computation; `attention` is the name of an attention
    implementation that transformers knows or that was registered with it.

    Raises:
        BaseModelError: the checkpoint is damaged, incomplete or not served.
    """
    config = read_model_config(prepared.directory)
    if prepared.quantization != "none":
        # The stored compute dtype is that of the quantising run, not of this one.
        config.quantization_config["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    model = load_model(prepared.directory, config, device=device, dtype=dtype, attn_implementation=attention)
    model.requires_grad_(False)
    _settle_dtypes(model, dtype)
    return model


def linear_modules(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Every linear module, 4-bit ones and the output head included: full name -> (out_features, in_features)."""
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }


def _settle_dtypes(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give the unquantised parameters `dtype`, and let 4-bit ones compute in it on every CPU.

    transformers leaves the floats of a 4-bit checkpoint as they are stored. On CPUs with AVX512-BF16 bitsandbytes
    would repack the weights at the first forward and compute in bf16 whatever was asked; what it repacked cannot
    be trained through, nor dequantised by anybody else.
    """
    kept = tuple(model._keep_in_fp32_modules_strict or ())
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
        for parameter in module.parameters(recurse=False):
            if not isinstance(parameter, Params4bit) and not any(part in name for part in kept):
                parameter.data = parameter.data.to(dtype)
