"""A PEFT directory read without a digest, for tests of what is in it."""

from pathlib import Path

from adapters_store.adapter_files import ADAPTER_FILES
from server.adapters.formats import Modules, read_adapter
from server.adapters.normal_form import NormalForm


def read_directory(directory: Path, modules: Modules) -> NormalForm:
    return read_adapter({name: (directory / name).read_bytes() for name in ADAPTER_FILES}, modules)
