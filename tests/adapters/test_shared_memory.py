"""Adapters in pages: what they count for, and that what lies there is theirs alone."""

import pytest
import torch

from server.adapters.normal_form import LinearForm, NormalForm
from server.adapters.shared_memory import PageReservation, SharedMemory
from server.engine.page_pool import PagePool

PAGE_BYTES = 4096


class Device:
    """Shared memory of a few pages, all of them dirty but the first."""

    def __init__(self, *, dtype: torch.dtype = torch.float32, kv_floor: int = 2, shared: int = 3) -> None:
        self.pages = PagePool(kv_floor=kv_floor, shared=shared, adapter_floor=6, page_bytes=PAGE_BYTES)
        self.bytes = torch.full((1 + self.pages.total, PAGE_BYTES), 0xFF, dtype=torch.uint8)
        self.bytes[0] = 0
        self.memory = SharedMemory(self.pages, self.bytes, dtype)

    def place(self, form: NormalForm) -> tuple[NormalForm, PageReservation]:
        reservation = self.memory.reserve(form)
        assert reservation is not None
        return self.memory.copy(form, reservation), reservation


def adapter(seed: int, rank: int = 3, *, dtype: torch.dtype = torch.float32) -> NormalForm:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return NormalForm(
        {
            "q": LinearForm(a=random(rank, 33), b=random(17, rank), bias=random(17)),
            "head": LinearForm(a=random(rank, 32), b=random(700, rank), out_scale=random(700)),
        }
    )


def assert_same(form: NormalForm, source: NormalForm, dtype: torch.dtype) -> None:
    assert list(form.linears) == list(source.linears)
    for mine, theirs in zip(form.tensors(), source.tensors(), strict=True):
        assert mine.dtype == dtype
        assert mine.is_contiguous()
        assert mine.data_ptr() % 64 == 0
        assert torch.equal(mine, theirs.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_a_form_lies_in_its_pages_in_the_format_of_the_engine(dtype: torch.dtype, stored: torch.dtype) -> None:
    device, source = Device(dtype=dtype), adapter(1, dtype=stored)
    before = device.bytes.clone()
    form, reservation = device.place(source)
    assert_same(form, source, dtype)
    pages = [page for run in reservation.runs for page in run]
    assert reservation.size_bytes == len(pages) * PAGE_BYTES == device.memory.bytes_for(source)
    assert device.memory.used_bytes == reservation.size_bytes
    others = [page for page in range(1 + device.pages.total) if page not in pages]
    assert torch.equal(device.bytes[others], before[others])
    start, end = device.bytes.data_ptr(), device.bytes.data_ptr() + device.bytes.nbytes
    assert all(start <= tensor.data_ptr() < end for tensor in form.tensors())


def test_adapters_lie_beside_each_other_and_leave_nothing_behind_that_counts() -> None:
    device = Device()
    sources = [adapter(seed) for seed in (1, 2)]
    forms = [device.place(source) for source in sources]
    device.memory.release(forms[0][1])
    third = adapter(3, rank=4)
    form, reservation = device.place(third)
    assert_same(forms[1][0], sources[1], torch.float32)
    assert_same(form, third, torch.float32)
    for held in (forms[1][1], reservation):
        device.memory.release(held)
    assert device.memory.used_bytes == 0
    assert device.memory.free_bytes == device.memory.budget_bytes
    device.pages.check()


def test_neighbours_in_a_file_are_copied_together_and_keep_shapes_and_strides() -> None:
    device = Device(dtype=torch.bfloat16)
    file = torch.randn(9000).half()
    source = NormalForm(
        {
            "one": LinearForm(a=file[:512].view(8, 64), b=file[512:1024].view(64, 8).t()),
            "two": LinearForm(a=file[1037:1357].view(5, 64), bias=file[1024:1037], in_scale=torch.randn(3)),
            "empty": LinearForm(a=torch.zeros(0, 4), b=torch.zeros(4, 0)),
        }
    )
    form, reservation = device.place(source)
    for mine, theirs in zip(form.tensors(), source.tensors(), strict=True):
        assert mine.stride() == theirs.stride()
        assert torch.equal(mine, theirs.bfloat16())
    assert reservation.size_bytes == PAGE_BYTES


def test_what_modules_share_is_stored_once_and_stays_shared() -> None:
    device, shared = Device(), torch.randn(8, 64)
    source = NormalForm({"one": LinearForm(a=shared, b=torch.randn(4, 8)), "two": LinearForm(a=shared)})
    form, _ = device.place(source)
    first, second = form.linears["one"].a, form.linears["two"].a
    assert first is not None
    assert second is not None
    assert first.data_ptr() == second.data_ptr()
    assert_same(form, source, torch.float32)
    twice = NormalForm({"one": LinearForm(a=shared), "two": LinearForm(a=shared)})
    once = NormalForm({"one": LinearForm(a=shared)})
    assert device.memory.bytes_for(twice) == device.memory.bytes_for(once)


def test_budget_floor_and_what_is_free_are_told_in_bytes() -> None:
    device = Device()
    memory = device.memory
    assert (memory.floor_bytes, memory.budget_bytes) == (6 * PAGE_BYTES, 9 * PAGE_BYTES)
    assert (memory.used_bytes, memory.free_bytes) == (0, 9 * PAGE_BYTES)
    rows = device.pages.take(4)
    assert rows == [1, 2, 3, 4]
    assert memory.free_bytes == 7 * PAGE_BYTES
    for page in rows:
        device.pages.keep(page)
    assert memory.free_bytes == 9 * PAGE_BYTES
    assert memory.unused_bytes == 7 * PAGE_BYTES


def test_a_form_that_finds_no_place_takes_nothing() -> None:
    device = Device()
    small = NormalForm({"m": LinearForm(bias=torch.zeros(1000))})
    held = [device.place(small)[1] for _ in range(9)]
    assert device.memory.reserve(small) is None
    assert device.memory.used_bytes == 9 * PAGE_BYTES
    long = NormalForm({"m": LinearForm(bias=torch.zeros(2000))})
    assert not device.memory.fits(long)
    assert not device.memory.fits(long, [held[0], held[2]])
    assert device.memory.fits(long, [held[0], held[1]])
    for reservation in (held[0], held[2]):
        device.memory.release(reservation)
    assert device.memory.free_bytes == 2 * PAGE_BYTES
    assert device.memory.reserve(long) is None
    assert device.memory.used_bytes == 7 * PAGE_BYTES


def test_only_pages_beyond_its_floor_are_of_use_to_keys_and_values() -> None:
    device = Device()
    held = [device.place(NormalForm({"m": LinearForm(bias=torch.zeros(2000))}))[1] for _ in range(4)]
    assert [reservation.shared_bytes for reservation in held] == [0, 0, 0, 2 * PAGE_BYTES]
    assert device.memory.lent_bytes == 2 * PAGE_BYTES


def test_a_scale_stays_beside_the_factors() -> None:
    device, b = Device(), torch.randn(16, 4).half()
    form, _ = device.place(NormalForm({"m": LinearForm(a=torch.randn(4, 16), b=b, scale=0.3)}))
    placed = form.linears["m"]
    assert placed.scale == 0.3
    assert placed.b is not None
    assert torch.equal(placed.b, b.float())
