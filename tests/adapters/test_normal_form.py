"""The size, rank and placement of a form."""

import torch

from server.adapters.normal_form import LinearForm, NormalForm

CPU = torch.device("cpu")


def test_the_size_counts_every_tensor_and_shared_storage_once() -> None:
    shared = torch.zeros(4, 8)
    form = NormalForm(
        {
            "one": LinearForm(a=shared, b=torch.zeros(16, 4)),
            "two": LinearForm(a=shared.t(), in_scale=torch.zeros(8), out_scale=torch.zeros(2), bias=torch.zeros(2)),
        }
    )
    assert form.size_bytes == 4 * (4 * 8 + 16 * 4 + 8 + 2 + 2)
    assert NormalForm({}).size_bytes == 0


def test_the_rank_is_the_largest_of_any_module() -> None:
    linears = {str(rank): LinearForm(a=torch.zeros(rank, 8), b=torch.zeros(8, rank)) for rank in (3, 16, 8)}
    assert NormalForm(linears).rank == 16
    assert NormalForm({"scaled": LinearForm(out_scale=torch.ones(8))}).rank == 0


def test_tensors_yields_what_is_there() -> None:
    scale, bias = torch.zeros(8), torch.zeros(2)
    assert [
        tensor is wanted
        for tensor, wanted in zip(LinearForm(None, None, scale, None, bias).tensors(), (scale, bias), strict=True)
    ] == [True, True]


def test_a_form_moves_whole_and_keeps_what_it_lacks_absent() -> None:
    source = NormalForm({"m": LinearForm(a=torch.ones(2, 8), b=torch.ones(8, 2), bias=torch.ones(8))})
    half = source.to(CPU, torch.bfloat16)
    assert {tensor.dtype for tensor in half.linears["m"].tensors()} == {torch.bfloat16}
    assert half.linears["m"].in_scale is None
    assert half.size_bytes * 2 == source.size_bytes


def test_a_copy_is_one_piece_of_memory_and_leaves_the_source_alone() -> None:
    a, b = torch.ones(2, 8), torch.ones(8, 2, dtype=torch.float16)
    source = NormalForm({"m": LinearForm(a=a, b=b, scale=2.0)})
    moved = source.to(CPU, torch.float32).linears["m"]
    assert moved.a is not None
    assert moved.b is not None
    assert moved.a.untyped_storage().data_ptr() == moved.b.untyped_storage().data_ptr()
    assert moved.scale == 2
    assert torch.equal(moved.b, torch.ones(8, 2))
    moved.b.zero_()
    assert torch.equal(b, torch.ones(8, 2, dtype=torch.float16))


def test_what_shares_its_storage_still_does_in_a_copy_with_its_shapes_and_strides() -> None:
    shared = torch.arange(32.0).view(4, 8)
    source = NormalForm({"one": LinearForm(a=shared), "two": LinearForm(a=shared.t(), in_scale=shared[2])})
    copied = source.to(CPU, torch.float32)
    assert copied.size_bytes == shared.nbytes
    assert torch.equal(copied.linears["one"].a, shared)  # type: ignore[arg-type]
    assert torch.equal(copied.linears["two"].a, shared.t())  # type: ignore[arg-type]
    assert torch.equal(copied.linears["two"].in_scale, shared[2])  # type: ignore[arg-type]
