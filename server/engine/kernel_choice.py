"""Which kernels compute the base's linears, decided once at start."""

import logging
import os
from dataclasses import dataclass

import torch

from server.config import Settings
from server.engine.base_source import Quantization
from server.kernels.native_library import NativeKernelsUnavailable, NativeLibrary
from server.kernels.native_linear import NativeKernels

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KernelChoice:
    """`name` and `reason` are for people; `native` is set where the native kernels compute the 4-bit linears."""

    name: str
    reason: str
    native: NativeKernels | None = None


def choose_kernels(settings: Settings, quantization: Quantization, device: torch.device) -> KernelChoice:
    """The kernels for a base of this quantisation on this device. A warning says where native ones are missing."""
    if quantization == "none":
        return KernelChoice("torch", "the base is not quantised")
    if settings.numerics == "exact":
        return KernelChoice("reference", "numerics is exact")
    if device.type != "cpu":
        return KernelChoice("bitsandbytes", f"the device is {device.type}")
    try:
        library = NativeLibrary()
    except NativeKernelsUnavailable as error:
        _log.warning("no native kernels, the slower reference ones are used: %s", error.message)
        return KernelChoice("reference", error.message)
    native = NativeKernels(library, threads=settings.threads or default_threads())
    return KernelChoice(str(native), "the best that this processor has", native)


def default_threads() -> int:
    """All cores of this process but one, which HTTP, loads and clients run on.

    A step has hundreds of short parallel regions, and each waits for its slowest thread: one thread that has to
    share its core makes every region, and so the step, several times slower than a thread fewer does.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1)
