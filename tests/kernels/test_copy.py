"""Copies into the formats of the device, past the caches where the processor can."""

import pytest
import torch

from tests.kernels.native_cases import kernels

HALVES = torch.arange(2**16).to(torch.uint16).view(torch.float16)  # every number there is, NaN and infinities too


def test_every_half_becomes_the_float_that_it_is(instruction_set: str) -> None:
    floats = torch.full((len(HALVES),), -1.0)
    kernels(instruction_set).library.copy(floats, HALVES)
    assert torch.equal(floats.nan_to_num(7), HALVES.float().nan_to_num(7))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100, 4097])
@pytest.mark.parametrize(("to_at", "from_at"), [(0, 0), (1, 0), (8, 3), (15, 1)])
def test_a_copy_begins_anywhere_and_touches_nothing_else(
    instruction_set: str, count: int, to_at: int, from_at: int
) -> None:
    source = torch.randn(from_at + count).half()
    floats = torch.full((to_at + count + 5,), -7.0)
    kernels(instruction_set).library.copy(floats[to_at : to_at + count], source[from_at:])
    assert torch.equal(floats[to_at : to_at + count], source[from_at:].float())
    assert (floats[:to_at] == -7).all()
    assert (floats[to_at + count :] == -7).all()


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_formats_and_strides_are_copied_too(
    instruction_set: str, stored: torch.dtype, dtype: torch.dtype
) -> None:
    source, target = torch.randn(64).to(stored)[::2], torch.empty(32, dtype=dtype)
    kernels(instruction_set).library.copy(target, source)
    assert torch.equal(target, source.to(dtype))
