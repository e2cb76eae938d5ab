"""A PEFT directory read without a digest, and made ready to compute, for tests of what is in it."""

from pathlib import Path

import torch

from adapters_store.adapter_files import ADAPTER_FILES
from server.adapters.formats import Modules, read_adapter
from server.adapters.normal_form import NormalForm


def read_directory(directory: Path, modules: Modules) -> NormalForm:
    return host_form(directory, modules).to(torch.device("cpu"), torch.float32)


def host_form(directory: Path, modules: Modules) -> NormalForm:
    """The form as it lies in host memory."""
    files = {name: memoryview((directory / name).read_bytes()) for name in ADAPTER_FILES}
    return read_adapter(files, modules)
