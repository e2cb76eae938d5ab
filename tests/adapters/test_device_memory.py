"""Device memory of its own for adapters: a budget that nothing exceeds."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.device_memory import Reservation, SeparateMemory
from server.adapters.normal_form import LinearForm, NormalForm

CPU = torch.device("cpu")


def form(elements: int, value: float = 1.0) -> NormalForm:
    return NormalForm({"m": LinearForm(in_scale=torch.full((elements,), value, dtype=torch.float16))})


def test_a_form_counts_in_the_format_of_the_device() -> None:
    memory = SeparateMemory(100, device=CPU, dtype=torch.float32)
    assert memory.bytes_for(form(10)) == 40
    reservation = memory.reserve(form(10))
    assert reservation is not None
    assert (reservation.size_bytes, memory.used_bytes, memory.free_bytes) == (40, 40, 60)
    assert memory.reserve(form(16)) is None
    assert memory.used_bytes == 40
    memory.release(reservation)
    assert memory.free_bytes == 100


def test_the_memory_of_an_adapter_that_left_serves_one_of_the_same_size() -> None:
    memory = SeparateMemory(100, device=CPU, dtype=torch.float32)
    first = memory.reserve(form(10))
    assert first is not None
    left = memory.copy(form(10), first).linears["m"].in_scale
    memory.release(first)
    second = memory.reserve(form(10))
    assert second is not None
    came = memory.copy(form(10, 2.0), second).linears["m"].in_scale
    assert left is not None
    assert came is not None
    assert left.data_ptr() == came.data_ptr()
    assert came.tolist() == [2.0] * 10


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=40))
def test_what_is_used_and_what_was_left_never_exceed_the_budget(steps: list[tuple[int, bool]]) -> None:
    memory = SeparateMemory(200, device=CPU, dtype=torch.float32)
    held: list[Reservation] = []
    for elements, leave in steps:
        if leave and held:
            memory.release(held.pop(0))
        elif (reservation := memory.reserve(form(elements))) is not None:
            held.append(reservation)
            copied = memory.copy(form(elements), reservation)
            assert copied.size_bytes == reservation.size_bytes == 4 * elements
        assert memory.used_bytes == sum(reservation.size_bytes for reservation in held)
        assert memory.used_bytes + sum(flat.nbytes for flat in memory._left) <= 200
