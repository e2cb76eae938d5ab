"""Deciding whether a directory holds an adapter that can be served."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from adapters_store.adapter_files import CONFIG_FILE, PROMPTING_FILE, WEIGHTS_FILE
from adapters_store.adapter_prompting import (
    MAX_PROMPTING_BYTES,
    PromptingSummary,
    decode_prompting,
    summarise_prompting,
)
from adapters_store.atomic_file import read_limited
from adapters_store.base_description import BaseDescription
from adapters_store.chat_template import probe_template
from adapters_store.errors import ChatTemplateFailed, InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.lora_format import check_lora
from adapters_store.metadata import AdapterMetadata
from adapters_store.quoting import quoted
from adapters_store.safetensors_file import SafetensorsFile, open_safetensors
from adapters_store.tokenizer_directory import optional_content

# What the server calls the copies that it keeps of a base, after the base's own name.
_KEPT_COPY: Final = re.compile(r"-(?:nf4|fp4|none)-[0-9a-f]{16}")

FormatCheck = Callable[[Mapping[str, Any], SafetensorsFile, BaseDescription | None, Limits], AdapterMetadata]

# PEFT's `peft_type` -> what checks the configuration and the tensor shapes of that method.
FORMATS: Final[Mapping[str, FormatCheck]] = {"LORA": check_lora}


def validate_adapter(directory: Path, *, base: BaseDescription | None, limits: Limits) -> AdapterMetadata:
    """Check an adapter's files: configuration, header, shapes, how it is prompted, and at last every value.

    Without a base, modules and their shapes go unchecked, and a warning says so. A chat template must compile and
    write a short conversation, in a process of its own.

    Raises:
        InvalidAdapter, AdapterTooLarge: it may not be served; `param` names the file, field or tensor.
        ChatTemplateFailed: its chat template does not work.
        OSError: a file cannot be read.
    """
    config = _read_config(directory / CONFIG_FILE, limits)
    check = _format_of(config)
    weights = open_safetensors(directory / WEIGHTS_FILE, max_bytes=limits.max_bytes, max_tensors=limits.max_tensors)
    metadata = check(config, weights, base, limits)
    prompting = _check_prompting(directory, base)
    weights.check_finite()
    return dataclasses.replace(
        metadata,
        warnings=metadata.warnings + _base_warnings(metadata.base_name, base),
        prompting=prompting,
    )


def _read_config(path: Path, limits: Limits) -> Mapping[str, Any]:
    try:
        text = read_limited(path, limits.max_config_bytes).decode("utf-8")
        config = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{path.name} is not JSON: {error}", param=path.name) from error
    if not isinstance(config, dict):
        raise InvalidAdapter(f"{path.name} is not a JSON object", param=path.name)
    return config


def _check_prompting(directory: Path, base: BaseDescription | None) -> PromptingSummary | None:
    """What the version brings; None where it has no `prompting.json`."""
    content = optional_content(directory / PROMPTING_FILE, MAX_PROMPTING_BYTES)
    if content is None:
        return None
    prompting = decode_prompting(content)
    if prompting.chat_template is not None:
        known = base.tokenizer.special_tokens if base is not None and base.tokenizer is not None else {}
        try:
            probe_template(prompting.chat_template, {**known, **prompting.special_tokens})
        except ChatTemplateFailed as error:
            error.param = "chat_template"
            raise
    return summarise_prompting(prompting, content)


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
    if base_name is None or _is_name_of(base_name, base):
        return ()
    return (
        f"trained on {quoted(base_name)} and checked against {base.name}: all shapes fit, but make sure that it is "
        "the same model",
    )


def _is_name_of(base_name: str, base: BaseDescription) -> bool:
    """Whether a name, often a path, is that of a base or of the 4-bit copy that the server keeps of it."""
    last, known = _last_part(base_name), _last_part(base.name)
    return last == known or _KEPT_COPY.fullmatch(last.removeprefix(known)) is not None


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
