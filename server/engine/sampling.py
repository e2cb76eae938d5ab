"""Choosing the next token of each row.

The order in which a request's wishes apply:

1. scores (`server.engine.scoring`) are taken from the model's own logits, before anything below;
2. `logit_bias`, then `min_tokens` (what ends an answer is forbidden), then the grammar's mask;
3. repetition, frequency and presence penalties;
4. greedy rows (temperature 0) take the likeliest token; the others divide by the temperature;
5. `top_k`, then `top_p`, then `min_p`;
6. one token is drawn, with one number from the row's own generator.

Steps 1 to 4 are vLLM's. In step 5 vLLM drops by `min_p` first, so that its `top_p` counts what that left; ours is
the order of transformers, and of llama.cpp. Where several tokens tie for the last place of `top_k`, we keep `top_k`
tokens and they keep all that tie.
"""

import math
from collections.abc import Sequence as Seq

import torch

from server.engine.logits_adjustment import adjust, is_adjusted
from server.engine.messages import SamplingParams
from server.engine.row_failure import RowFailure, overflow
from server.engine.sequence import Sequence

_CANDIDATES = 1024
"""How many of the most likely tokens are sorted before the whole vocabulary is."""


def sample(
    logits: torch.Tensor, sequences: Seq[Sequence], eos_token_ids: frozenset[int] = frozenset()
) -> list[int | RowFailure]:
    """One token for each row, or why it has none.

    A row without wishes of its own costs its share of one argmax over all rows, and its draw.

    Args:
        logits: fp32 [rows, vocabulary]; not changed.
        sequences: the rows' sequences; one that samples draws exactly one number from its generator, so that a
            seed gives the same text in any company.
        eos_token_ids: what ends an answer besides a request's own stop tokens.
    """
    largest = logits.max(dim=-1)
    choices: list[int | RowFailure] = largest.indices.tolist()
    for index, finite in enumerate(largest.values.isfinite().tolist()):
        if not finite:
            choices[index] = overflow(sequences[index])
    rows = _adjusted_rows(logits, sequences, choices, eos_token_ids)
    for index, sequence in enumerate(sequences):
        params = sequence.request.sampling
        if params.temperature > 0 and isinstance(choices[index], int):
            row = rows[index] if index in rows else logits[index]
            choices[index] = _draw(row, params, sequence.draw())
    return choices


def _adjusted_rows(
    logits: torch.Tensor, sequences: Seq[Sequence], choices: list[int | RowFailure], eos_token_ids: frozenset[int]
) -> dict[int, torch.Tensor]:
    """The logits of the rows that have wishes, with the greedy choices of these rows put right."""
    indices = [
        index
        for index, sequence in enumerate(sequences)
        if is_adjusted(sequence) and not isinstance(choices[index], RowFailure)
    ]
    if not indices:
        return {}
    adjusted = logits[indices]
    failures = adjust(adjusted, [sequences[index] for index in indices], eos_token_ids)
    largest = adjusted.max(dim=-1)
    values, tokens = largest.values.tolist(), largest.indices.tolist()
    for place, index in enumerate(indices):
        choices[index] = failures.get(place) or _impossible(sequences[index], values[place]) or tokens[place]
    return {index: adjusted[place] for place, index in enumerate(indices)}


def _impossible(sequence: Sequence, largest: float) -> RowFailure | None:
    """Why no token can be chosen where this is the largest adjusted logit; None where one can."""
    if math.isfinite(largest):
        return None
    if largest != -math.inf:
        return RowFailure("logit_bias and penalties overflow: give smaller values", "invalid_value")
    if sequence.constraint is None:
        return RowFailure("min_tokens and logit_bias leave no token that may be chosen", "invalid_value")
    if sequence.generated < sequence.request.sampling.min_tokens:
        return RowFailure("the grammar leaves no token before min_tokens: lower min_tokens", "invalid_value")
    return RowFailure("the grammar has come to a dead end: it allows no token of this model", "invalid_value")


def _draw(logits: torch.Tensor, params: SamplingParams, uniform: float) -> int:
    """Invert the cumulative distribution of the kept tokens at `uniform`, which is in [0, 1)."""
    weights, ids = keep_likely(logits, params)
    chosen = _invert(weights, uniform)
    return chosen if ids is None else int(ids[chosen])


def keep_likely(logits: torch.Tensor, params: SamplingParams) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What may be drawn after temperature, top-k, top-p (Holtzman et al. 2020) and min-p (Nguyen et al. 2024).

    Top-p keeps the smallest set of most likely tokens whose probability reaches p, min-p the tokens that are at
    least that share as likely as the likeliest; both keep the first one always. The largest logit is taken off
    before the temperature divides, so that no temperature above 0 overflows.

    Args:
        logits: fp32 [vocabulary].
        params: a temperature above 0.

    Returns:
        fp64 weights that need not add up to 1, and the token ids that they belong to: the likeliest first, or None
        where the weights are those of the whole vocabulary, with 0 for what was dropped.
    """
    probabilities = torch.softmax((logits.double() - logits.max()) / params.temperature, dim=-1)
    if not params.top_k and params.top_p >= 1:
        if params.min_p > 0:
            probabilities[probabilities < params.min_p * probabilities.max()] = 0
        return probabilities, None
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
    kept = len(likely)
    if params.top_p < 1:
        before = likely.cumsum(0) - likely
        kept = max(1, int((before < params.top_p * mass).sum()))
    if params.min_p > 0:
        kept = min(kept, int((likely >= params.min_p * likely[0]).sum()))
    return likely[:kept], ids[:kept]


def _invert(weights: torch.Tensor, uniform: float) -> int:
    """The first index at which the running sum exceeds `uniform` of the total."""
    total = weights.cumsum(0)
    return min(int(torch.searchsorted(total, uniform * total[-1], right=True)), len(weights) - 1)
