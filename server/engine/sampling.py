"""Choosing the next token of each row."""

from collections.abc import Sequence as Seq

import torch

from server.engine.messages import SamplingParams
from server.engine.sequence import Sequence

_CANDIDATES = 1024
"""How many of the most likely tokens are sorted before the whole vocabulary is."""


def sample(logits: torch.Tensor, sequences: Seq[Sequence]) -> list[int | None]:
    """One token for each row; None where the row's logits overflowed or are not numbers.

    Args:
        logits: fp32 [rows, vocabulary].
        sequences: the rows' sequences; one that samples draws exactly one number from its generator, so that a
            seed gives the same text in any company.
    """
    largest = logits.max(dim=-1)
    finite: list[bool] = largest.values.isfinite().tolist()
    tokens: list[int | None] = largest.indices.tolist()
    for index, sequence in enumerate(sequences):
        params = sequence.request.sampling
        if not finite[index]:
            tokens[index] = None
        elif params.temperature > 0:
            tokens[index] = _draw(logits[index], params, sequence.rng.random())
    return tokens


def _draw(logits: torch.Tensor, params: SamplingParams, uniform: float) -> int:
    """Invert the cumulative distribution at `uniform`, after top-k and then top-p (Holtzman et al. 2020).

    Top-p keeps the smallest set of most likely tokens whose probability reaches p, the first one always. The
    largest logit is taken off before the temperature divides, so that no temperature above 0 overflows.
    """
    probabilities = torch.softmax((logits.double() - logits.max()) / params.temperature, dim=-1)
    if not params.top_k and params.top_p >= 1:
        return _invert(probabilities, uniform)
    vocabulary = len(probabilities)
    top_k = min(params.top_k or vocabulary, vocabulary)
    count = min(top_k, _CANDIDATES)
    likely, ids = torch.topk(probabilities, count)
    if params.top_k:
        mass = likely.sum() if count == top_k else torch.topk(probabilities, top_k).values.sum()
    else:
        mass = probabilities.new_ones(())
    if count < top_k and likely.sum() < params.top_p * mass:
        likely, ids = torch.topk(probabilities, top_k)
    before = likely.cumsum(0) - likely
    kept = max(1, int((before < params.top_p * mass).sum())) if params.top_p < 1 else len(likely)
    return int(ids[_invert(likely[:kept], uniform)])


def _invert(weights: torch.Tensor, uniform: float) -> int:
    """The first index at which the running sum exceeds `uniform` of the total."""
    total = weights.cumsum(0)
    return min(int(torch.searchsorted(total, uniform * total[-1], right=True)), len(weights) - 1)
