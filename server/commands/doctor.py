"""What `switchyard doctor` finds out: the machine, the libraries, and which kernels would compute here, and why."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from server.commands.output import Output
from server.config import Settings
from server.engine.kernel_choice import choose_kernels, default_threads

_PACKAGES = ("switchyard", "torch", "transformers", "peft", "bitsandbytes", "tokenizers")


def run_doctor(settings: Settings, output: Output) -> None:
    """Write a report on this machine under these settings; nothing is loaded or changed."""
    found = examine(settings)
    width = max(map(len, found))
    output.result(found, "\n".join(f"{name.ljust(width)}  {_text(value)}" for name, value in found.items()))


def examine(settings: Settings) -> dict[str, Any]:
    """The report: names to plain values."""
    on_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    chosen = choose_kernels(settings, settings.quantization, torch.device("cpu" if on_cpu else "cuda"))
    return {
        "processor": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores for this process",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "device": "cpu" if on_cpu else torch.cuda.get_device_name(),
        "step threads": settings.threads or default_threads(),
        "kernels": chosen.name,
        "because": chosen.reason,
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {found}" for name, found in value.items())
    return str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
