"""Which kernels compute is decided by settings, device and what was built, and the reason is told."""

import logging
from pathlib import Path

import pytest
import torch

from server.config import Settings
from server.engine import kernel_choice
from server.engine.kernel_choice import choose_kernels
from server.kernels.native_library import LIBRARY, NativeKernelsUnavailable, NativeLibrary

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("numerics", "quantization", "device", "name"),
    [
        ("exact", "nf4", CPU, "reference"),
        ("exact", "nf4", CUDA, "reference"),
        ("default", "nf4", CUDA, "bitsandbytes"),
        ("default", "none", CPU, "torch"),
        ("exact", "none", CUDA, "torch"),
    ],
)
def test_native_kernels_are_for_rounded_4bit_linears_on_the_cpu(
    numerics: str, quantization: str, device: torch.device, name: str
) -> None:
    chosen = choose_kernels(Settings(numerics=numerics), quantization, device)  # type: ignore[arg-type]
    assert (chosen.name, chosen.native) == (name, None)
    assert chosen.reason


@pytest.mark.skipif(not LIBRARY.is_file(), reason=f"{LIBRARY.name} was not built (no C++ compiler?)")
def test_native_kernels_take_the_threads_of_the_step() -> None:
    chosen = choose_kernels(Settings(threads=3), "nf4", CPU)
    assert chosen.native is not None
    assert chosen.native.threads == 3
    assert chosen.name == f"native ({chosen.native.library.instruction_set})"


def test_without_the_library_the_reference_computes_and_one_warning_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel_choice, "NativeLibrary", lambda: NativeLibrary(tmp_path / LIBRARY.name))
    with caplog.at_level(logging.WARNING):
        chosen = choose_kernels(Settings(), "nf4", CPU)
    assert (chosen.name, chosen.native) == ("reference", None)
    (record,) = caplog.records
    assert "install a C++ compiler" in record.getMessage()
    assert "install a C++ compiler" in chosen.reason


def test_what_is_no_library_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / LIBRARY.name).write_text("not a library")
    with pytest.raises(NativeKernelsUnavailable, match="cannot be loaded"):
        NativeLibrary(tmp_path / LIBRARY.name)


@pytest.mark.skipif(not LIBRARY.is_file(), reason=f"{LIBRARY.name} was not built (no C++ compiler?)")
def test_an_instruction_set_that_is_not_here_is_refused() -> None:
    with pytest.raises(NativeKernelsUnavailable, match="has no 'abacus'; there is portable"):
        NativeLibrary(instruction_set="abacus")
