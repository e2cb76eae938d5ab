"""The reference 4-bit linear: weights are dequantised for each call and multiplied in the activations' dtype."""

import torch
from torch import nn
from torch.nn.functional import linear

from server.kernels.quantised_linear import Linear4bit, dequantize_4bit


class DequantizedLinear(nn.Module):
    """A resident 4-bit linear with exact arithmetic over its dequantised weights.

    bitsandbytes' own forward chooses its arithmetic by the processor (bf16 where there is AVX512-BF16, whatever
    dtype is asked), so that the same request could be answered differently on two machines. This one does not.
    The 4-bit weight is shared with the module it replaces and only read.
    """

    def __init__(self, quantized: Linear4bit) -> None:
        super().__init__()
        self.in_features: int = quantized.in_features
        self.out_features: int = quantized.out_features
        self.weight = quantized.weight
        self.bias = quantized.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> [..., out]."""
        weight = dequantize_4bit(self.weight.data, self.weight.quant_state)  # type: ignore[attr-defined]
        return linear(x, weight.to(x.dtype), self.bias)
