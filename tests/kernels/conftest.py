"""Native kernels are tested where they were built."""

import pytest

from server.kernels.native_library import LIBRARY, NativeKernelsUnavailable, NativeLibrary


def available() -> list[str]:
    """Names of the instruction sets that this processor has; none without the library."""
    try:
        return list(NativeLibrary().instruction_sets)
    except NativeKernelsUnavailable:
        return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "instruction_set" in metafunc.fixturenames:
        names = available()
        missing = pytest.mark.skip(reason=f"{LIBRARY.name} was not built (no C++ compiler?)")
        metafunc.parametrize("instruction_set", names or [pytest.param("", marks=missing)])
