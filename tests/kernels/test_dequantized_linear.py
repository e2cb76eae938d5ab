"""The reference 4-bit linear multiplies by the dequantised weights, in the dtype of what comes in."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn
from torch.nn.functional import linear

from server.kernels.dequantized_linear import DequantizedLinear
from server.kernels.quantised_linear import Linear4bit


def quantised(
    in_features: int, out_features: int, *, kind: str = "nf4", double: bool = True, bias: bool = False
) -> Linear4bit:
    """A resident 4-bit linear of random weights."""
    torch.manual_seed(in_features * out_features)
    dense = nn.Linear(in_features, out_features, bias=bias)
    module = Linear4bit(
        in_features, out_features, bias=bias, compute_dtype=torch.float32, compress_statistics=double, quant_type=kind
    )
    module.load_state_dict(dense.state_dict())
    return module.to("cpu").requires_grad_(False)


def weight_of(module: Linear4bit) -> torch.Tensor:
    weight: torch.Tensor = dequantize_4bit(module.weight.data, module.weight.quant_state)  # type: ignore[attr-defined]
    return weight


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(128, 64), (64, 128), (96, 40), (10, 7), (34, 3)]
)  # an odd width would compile for seconds
def test_it_is_a_linear_over_the_dequantised_weights(
    kind: str, double: bool, bias: bool, shape: tuple[int, int]
) -> None:
    module = quantised(*shape, kind=kind, double=double, bias=bias)
    reference, x = DequantizedLinear(module), torch.randn(5, shape[0])
    expected = linear(x, weight_of(module), module.bias)
    assert expected.shape == (5, shape[1])
    assert torch.equal(reference(x), expected)
    assert (reference.in_features, reference.out_features) == shape


@pytest.mark.parametrize("leading", [(1, 6), (2, 3), (0,), (1, 0), ()])
def test_leading_dimensions_are_kept(leading: tuple[int, ...]) -> None:
    module = quantised(64, 32, bias=True)
    x = torch.randn(*leading, 64)
    assert torch.equal(DequantizedLinear(module)(x), linear(x, weight_of(module), module.bias))


def test_a_bf16_activation_is_multiplied_in_bf16() -> None:
    module, x = quantised(64, 32), torch.randn(3, 64, dtype=torch.bfloat16)
    out = DequantizedLinear(module)(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, linear(x, weight_of(module).bfloat16()))


def test_the_4bit_weight_is_shared_and_only_read() -> None:
    module = quantised(64, 32, bias=True)
    before = module.weight.data.clone()
    reference = DequantizedLinear(module)
    reference(torch.randn(3, 64))
    assert reference.weight is module.weight
    assert reference.bias is module.bias
    assert torch.equal(module.weight.data, before)
