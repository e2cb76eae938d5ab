"""A linear over a mixed batch says, row by row, what the normal form's formula says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from server.adapters.adapter_linear import AdapterBatch, AdapterLinear, Segment
from server.adapters.normal_form import LinearForm, NormalForm

NAME = "layers.0.proj"
PARTS = ("factors", "scale", "in_scale", "out_scale", "bias")


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def form_with(parts: Sequence[str], *, rank: int, in_features: int, out_features: int) -> NormalForm:
    """A form of the parts that are named, and of nothing else, for the module NAME."""
    make: dict[str, Callable[[], dict[str, Any]]] = {
        "factors": lambda: {"a": values(rank, in_features), "b": values(out_features, rank) / rank},
        "scale": lambda: {"scale": 1.5},
        "in_scale": lambda: {"in_scale": values(in_features)},
        "out_scale": lambda: {"out_scale": values(out_features)},
        "bias": lambda: {"bias": values(out_features)},
    }
    fields: dict[str, Any] = {}
    for part in parts:
        fields |= make[part]()
    return NormalForm({NAME: LinearForm(**fields)})


def by_the_formula(base: nn.Linear, form: NormalForm | None, row: torch.Tensor) -> torch.Tensor:
    """y = out_scale * (W (in_scale * x) + scale * B (A (in_scale * x))) + bias for one row, in fp64."""
    linear = form.linears.get(NAME, LinearForm()) if form is not None else LinearForm()
    x = row.double()
    if linear.in_scale is not None:
        x = x * linear.in_scale.double()
    y = base.weight.double() @ x
    if linear.a is not None and linear.b is not None:
        y = y + linear.scale * (linear.b.double() @ (linear.a.double() @ x))
    if linear.out_scale is not None:
        y = y * linear.out_scale.double()
    own: torch.Tensor | None = base.bias
    bias = linear.bias if linear.bias is not None else own
    return y if bias is None else y + bias.double()


@dataclass(frozen=True)
class Layout:
    """Stretches of rows, each of the adapter with this index or of the base; some may be empty."""

    stretches: tuple[tuple[int, int | None], ...]

    def owners(self) -> list[int | None]:
        return [owner for count, owner in self.stretches for _ in range(count)]

    def segments(self, forms: Sequence[NormalForm]) -> list[Segment]:
        segments, at = [], 0
        for count, owner in self.stretches:
            if owner is not None:
                segments.append(Segment(at, at + count, forms[owner]))
            at += count
        return segments


parts = st.lists(st.sampled_from(PARTS), unique=True)
layouts = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 0, 1, 2])), max_size=6).map(
    lambda stretches: Layout(tuple(stretches))
)


@given(
    layout=layouts,
    adapters=st.lists(st.tuples(parts, st.integers(1, 64)), min_size=3, max_size=3),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 40),
    base_bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None)
@torch.inference_mode()
def test_every_row_gets_its_own_adapter_and_no_other(
    layout: Layout,
    adapters: list[tuple[list[str], int]],
    in_features: int,
    out_features: int,
    base_bias: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    base = nn.Linear(in_features, out_features, bias=base_bias)
    forms = [
        form_with(parts, rank=rank, in_features=in_features, out_features=out_features) for parts, rank in adapters
    ]
    owners = layout.owners()
    x = values(1, len(owners), in_features)
    given_x, state = x.clone(), {name: tensor.clone() for name, tensor in base.state_dict().items()}

    y = AdapterLinear(base, NAME, AdapterBatch(rows=layout.segments(forms)))(x)

    assert y.shape == (1, len(owners), out_features)
    for index, owner in enumerate(owners):
        expected = by_the_formula(base, None if owner is None else forms[owner], x[0, index])
        torch.testing.assert_close(y[0, index].double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, given_x)
    assert all(torch.equal(tensor, state[name]) for name, tensor in base.state_dict().items())


@pytest.fixture
def base() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 6).requires_grad_(False)


def adapter(*parts: str) -> NormalForm:
    return form_with(parts or ("factors",), rank=4, in_features=8, out_features=6)


def test_rows_of_the_base_are_bit_for_bit_what_the_base_says(base: nn.Linear) -> None:
    x = values(1, 5, 8)
    y = AdapterLinear(base, NAME, AdapterBatch(rows=[Segment(1, 3, adapter(*PARTS))]))(x)
    assert torch.equal(y[0, [0, 3, 4]], base(x)[0, [0, 3, 4]])


def test_an_adapter_leaves_the_modules_alone_that_it_does_not_target(base: nn.Linear) -> None:
    x = values(1, 5, 8)
    other = AdapterLinear(base, "layers.1.proj", AdapterBatch(rows=[Segment(0, 5, adapter(*PARTS))]))
    assert torch.equal(other(x), base(x))


@pytest.mark.parametrize("parts", [("bias",), ("out_scale", "bias"), PARTS])
def test_an_effective_bias_replaces_the_one_of_the_base(base: nn.Linear, parts: tuple[str, ...]) -> None:
    form = adapter(*parts)
    y = AdapterLinear(base, NAME, AdapterBatch(rows=[Segment(0, 1, form)]))(torch.zeros(1, 1, 8))
    torch.testing.assert_close(y[0, 0], form.linears[NAME].bias)


def test_an_out_scale_leaves_the_bias_of_the_base_as_it_is(base: nn.Linear) -> None:
    y = AdapterLinear(base, NAME, AdapterBatch(rows=[Segment(0, 1, adapter("out_scale"))]))(torch.zeros(1, 1, 8))
    torch.testing.assert_close(y[0, 0], base.bias.detach())


def test_the_head_counts_rows_as_they_are_sampled_and_other_modules_as_they_are_packed(base: nn.Linear) -> None:
    form = adapter()
    batch = AdapterBatch(rows=[Segment(4, 7, form)], sampled=[Segment(1, 2, form)])
    x = values(1, 7, 8)
    packed = AdapterLinear(base, NAME, batch)(x)
    head = AdapterLinear(base, NAME, batch, head=True)(x[:, :2])
    for index in range(7):
        expected = by_the_formula(base, form if index >= 4 else None, x[0, index])
        torch.testing.assert_close(packed[0, index].double(), expected, rtol=1e-4, atol=1e-4)
    for index in range(2):
        expected = by_the_formula(base, form if index == 1 else None, x[0, index])
        torch.testing.assert_close(head[0, index].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_segments_may_change_between_two_forwards(base: nn.Linear) -> None:
    batch = AdapterBatch()
    module, x, form = AdapterLinear(base, NAME, batch), values(1, 2, 8), adapter()
    assert torch.equal(module(x), base(x))
    batch.rows = [Segment(0, 2, form)]
    assert not torch.allclose(module(x), base(x))
    batch.rows = ()
    assert torch.equal(module(x), base(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_of_lower_precision_leaves_the_activations_in_theirs(base: nn.Linear, dtype: torch.dtype) -> None:
    form, x = adapter(*PARTS).to(torch.device("cpu"), dtype), values(1, 3, 8)
    y = AdapterLinear(base, NAME, AdapterBatch(rows=[Segment(0, 3, form)]))(x)
    assert y.dtype == torch.float32
    for index in range(3):
        expected = by_the_formula(base, form, x[0, index])
        torch.testing.assert_close(y[0, index].double(), expected, rtol=0.05, atol=0.1)


def test_the_wrapped_module_shows_the_weight_and_bias_of_the_base(base: nn.Linear) -> None:
    module = AdapterLinear(base, NAME, AdapterBatch())
    assert module.weight is base.weight
    assert module.bias is base.bias
    assert AdapterLinear(nn.Linear(2, 2, bias=False), NAME, AdapterBatch()).bias is None
