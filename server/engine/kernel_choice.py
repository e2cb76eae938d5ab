"""Which kernels compute the base's linears, decided once at start."""

import logging
from dataclasses import dataclass

import torch

from server.config import Settings
from server.engine.base_source import Quantization
from server.kernels.native_library import NativeKernelsUnavailable, NativeLibrary
from server.kernels.native_linear import NativeKernels

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KernelChoice:
    """`name` is for people; `native` is set where the native kernels compute the 4-bit linears."""

    name: str
    native: NativeKernels | None = None


def choose_kernels(settings: Settings, quantization: Quantization, device: torch.device) -> KernelChoice:
    """The kernels for a base of this quantisation on this device. A warning says where native ones are missing."""
    if quantization == "none":
        return KernelChoice("torch")
    if settings.numerics == "exact":
        return KernelChoice("reference")
    if device.type != "cpu":
        return KernelChoice("bitsandbytes")
    try:
        native = NativeKernels(NativeLibrary(), threads=torch.get_num_threads())
    except NativeKernelsUnavailable as error:
        _log.warning("no native kernels, the slower reference ones are used: %s", error.message)
        return KernelChoice("reference")
    return KernelChoice(str(native), native)
