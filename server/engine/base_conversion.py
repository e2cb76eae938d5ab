"""Turning a checkpoint or a GGUF file into the form in which the base stays resident.

GGUF goes through a dense fp32 checkpoint: transformers leaves a GGUF quantiser attached to a model loaded the
plain way and then refuses to save it, and it cannot combine `gguf_file` with bitsandbytes. Quantisation starts
from fp32, so that what the 4-bit weights dequantise to is not rounded to the source's dtype once more. The output
head and tied embeddings stay unquantised: bitsandbytes skips them.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging as transformers_logging

from server.engine.base_compatibility import causal_model_class, check_weights
from server.engine.base_progress import Advance, Progress
from server.engine.base_source import TOKENIZER_FILES, Quantization
from server.errors import BaseModelError

__all__ = ["dense_from_gguf", "load_model", "read_model_config", "save_quantised", "without_library_bars"]


def dense_from_gguf(path: Path, destination: Path, progress: Progress) -> Path:
    """Write the GGUF file `path` as a dense fp32 checkpoint with its tokenizer to `destination`, and return that.

    Raises:
        BaseModelError: the file's architecture is not known to transformers or not served, or the file is damaged.
    """
    location: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "local_files_only": True,
    }
    with (
        _explained(f"cannot convert {path}"),
        progress.stage(f"Converting {path.name}", path.stat().st_size) as advance,
        _tensors_counted(advance),
    ):
        causal_model_class(AutoConfig.from_pretrained(**location))
        model = AutoModelForCausalLM.from_pretrained(
            **location, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        model.save_pretrained(destination)
        AutoTokenizer.from_pretrained(**location).save_pretrained(destination)
    return destination


def save_quantised(source: Path, destination: Path, quantization: Quantization, progress: Progress) -> Path:
    """Write the dense checkpoint `source` in 4-bit to `destination`, tokenizer files included, and return that.

    Raises:
        BaseModelError: the checkpoint cannot be loaded or is not served.
    """
    config = read_model_config(source)
    with progress.stage(f"Quantising to {quantization.upper()}"):
        model = load_model(
            source,
            config,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            dtype=torch.float32,
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=quantization,
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            ),
        )
        with _explained(f"cannot quantise {source}"), without_library_bars():
            model.save_pretrained(destination)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)
    return destination


def read_model_config(directory: Path) -> PreTrainedConfig:
    """The configuration of a checkpoint that is served.

    Raises:
        BaseModelError: transformers does not know the architecture, or it is not served.
    """
    with _explained(f"cannot read the configuration of {directory}"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    causal_model_class(config)
    return config


def load_model(
    directory: Path, config: PreTrainedConfig, *, device: torch.device, dtype: torch.dtype, **options: Any
) -> PreTrainedModel:
    """Load a checkpoint onto one device, and refuse it where a weight is missing.

    transformers would fill a missing weight with random numbers and warn.

    Raises:
        BaseModelError: the weights do not fit the configuration, are damaged, or do not fit into memory.
    """
    with _explained(f"cannot load {directory}"), without_library_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=dtype,
            # Named although there is one device: without it bitsandbytes picks a GPU where there is one.
            device_map={"": str(device)},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    model: PreTrainedModel
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise BaseModelError(
            f"{directory} lacks {len(missing)} weights of its architecture, among them {', '.join(missing[:3])}",
            param="base",
        )
    check_weights(model)
    return model


@contextmanager
def without_library_bars() -> Iterator[None]:
    """Without transformers' own bars, which would be drawn over ours."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _tensors_counted(advance: Advance) -> Iterator[None]:
    """Count converted tensors into our bar in the place of the one that transformers' GGUF reader always draws."""

    def counted(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        for tensor in tensors:
            yield tensor
            advance(int(tensor.n_bytes))

    reader = cast(Any, modeling_gguf_pytorch_utils)
    original = reader.tqdm
    reader.tqdm = counted
    try:
        with without_library_bars():
            yield
    finally:
        reader.tqdm = original


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Give any error of the libraries inside the form of ours; they raise every kind."""
    try:
        yield
    except BaseModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        raise BaseModelError(f"{what}: {type(error).__name__}: {reason}", param="base") from error
