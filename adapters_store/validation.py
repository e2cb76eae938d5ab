"""Deciding whether a directory holds an adapter that can be served."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from adapters_store.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from adapters_store.atomic_file import read_limited
from adapters_store.base_description import BaseDescription
from adapters_store.errors import InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.lora_format import check_lora
from adapters_store.metadata import AdapterMetadata
from adapters_store.quoting import quoted
from adapters_store.safetensors_file import SafetensorsFile, open_safetensors

FormatCheck = Callable[[Mapping[str, Any], SafetensorsFile, BaseDescription | None, Limits], AdapterMetadata]

# PEFT's `peft_type` -> what checks the configuration and the tensor shapes of that method.
FORMATS: Final[Mapping[str, FormatCheck]] = {"LORA": check_lora}


def validate_adapter(directory: Path, *, base: BaseDescription | None, limits: Limits) -> AdapterMetadata:
    """Check the two files of an adapter: configuration, header, shapes, and at last every value.

    Without a base, modules and their shapes go unchecked, and a warning says so.

    Raises:
        InvalidAdapter, AdapterTooLarge: it may not be served; `param` names the file, field or tensor.
        OSError: a file cannot be read.
    """
    config = _read_config(directory / CONFIG_FILE, limits)
    check = _format_of(config)
    weights = open_safetensors(directory / WEIGHTS_FILE, max_bytes=limits.max_bytes, max_tensors=limits.max_tensors)
    metadata = check(config, weights, base, limits)
    weights.check_finite()
    return dataclasses.replace(metadata, warnings=metadata.warnings + _base_warnings(metadata.base_name, base))


def _read_config(path: Path, limits: Limits) -> Mapping[str, Any]:
    try:
        text = read_limited(path, limits.max_config_bytes).decode("utf-8")
        config = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{path.name} is not JSON: {error}", param=path.name) from error
    if not isinstance(config, dict):
        raise InvalidAdapter(f"{path.name} is not a JSON object", param=path.name)
    return config


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")


def _format_of(config: Mapping[str, Any]) -> FormatCheck:
    peft_type = config.get("peft_type")
    check = FORMATS.get(peft_type) if isinstance(peft_type, str) else None
    if check is None:
        raise InvalidAdapter(
            f"peft_type {quoted(peft_type)} is not served; served today: {', '.join(sorted(FORMATS))}",
            param="peft_type",
        )
    task_type = config.get("task_type")
    if task_type not in (None, "CAUSAL_LM"):
        raise InvalidAdapter(
            f"task_type {quoted(task_type)} is not served: the base is a causal language model; train with "
            "task_type='CAUSAL_LM'",
            param="task_type",
        )
    return check


def _base_warnings(base_name: str | None, base: BaseDescription | None) -> tuple[str, ...]:
    if base is None:
        return ("not checked against a base: the store has none described yet, serve from it once",)
    if base_name is None or _last_part(base_name) == _last_part(base.name):
        return ()
    return (
        f"trained on {quoted(base_name)} and checked against {base.name}: all shapes fit, but make sure that it is "
        "the same model",
    )


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
