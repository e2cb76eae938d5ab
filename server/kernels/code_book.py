"""The sixteen values of a 4-bit format, rounded to integers for the native kernels."""

from dataclasses import dataclass
from functools import cache

import torch

CODES = 16
_CHUNK = 64
_LIMITS = range(1024, 8192)
# Typical of activations: the largest of a chunk over their root mean square.
_PEAK = 2.5


@dataclass(frozen=True, eq=False)
class CodeBook:
    """Values of the codes and their integers, round(value * limit).

    Rounded activations lie in +-`activation_limit`. The products of a chunk must add up in 32 bits, so the two limits
    share 25 bits: the finer the weights, the coarser the activations.
    """

    values: torch.Tensor
    rounded: torch.Tensor
    limit: float
    activation_limit: float
    zero_code: int

    @staticmethod
    def of(values: torch.Tensor) -> "CodeBook":
        """The book of `values` fp32 [16], with the limits at which weights and activations together lose least.

        Raises:
            ValueError: the values lie beyond +-1, or none of them is zero.
        """
        if values.shape != (CODES,) or not bool((values.abs() <= 1).all()) or not bool((values == 0).any()):
            raise ValueError(f"a code book has {CODES} values within +-1 and zero among them, not {values.tolist()}")
        return _rounded(tuple(values.tolist()))


@cache
def _rounded(values: tuple[float, ...]) -> CodeBook:
    exact = torch.tensor(values, dtype=torch.float64)
    limits = torch.tensor(_LIMITS, dtype=torch.float64)[:, None]
    activation_limits = _activation_limit(limits[:, 0])
    weight_error = ((exact * limits).round() / limits - exact).square().mean(1) / exact.square().mean()
    activation_error = (_PEAK / activation_limits).square() / 12
    limit = float(limits[(weight_error + activation_error).argmin(), 0])
    return CodeBook(
        values=torch.tensor(values, dtype=torch.float32),
        rounded=(exact * limit).round().to(torch.int16),
        limit=limit,
        activation_limit=float(_activation_limit(torch.tensor(limit))),
        zero_code=values.index(0.0),
    )


def _activation_limit(book_limit: torch.Tensor) -> torch.Tensor:
    return ((2**31 - 1) / (_CHUNK * book_limit)).floor().clamp(max=2**15 - 1)
