"""How likely tokens were by the model's own logits: the log-softmax, before any sampling parameter."""

from collections.abc import Sequence as Seq

import torch

from server.engine.batch import Row
from server.engine.messages import TokenScore
from server.engine.row_failure import RowFailure, overflow


def score_tokens(logits: torch.Tensor, tokens: Seq[int], tops: Seq[int]) -> list[TokenScore | None]:
    """The score of one token in each row; None where the logits are not numbers.

    Args:
        logits: fp32 [rows, vocabulary].
        tokens: one of each row.
        tops: how many of the likeliest tokens to name beside it.
    """
    normaliser = logits.logsumexp(dim=-1)
    chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0] - normaliser
    count = min(max(tops, default=0), logits.shape[-1])
    values, ids = torch.topk(logits, count)
    likely = zip(ids.tolist(), (values - normaliser[:, None]).tolist(), strict=True)
    rows = zip(tokens, chosen.tolist(), normaliser.isfinite().tolist(), likely, tops, strict=True)
    return [
        TokenScore(token_id=token, logprob=logprob, top=list(zip(top_ids[:top], top_values[:top], strict=True)))
        if finite
        else None
        for token, logprob, finite, (top_ids, top_values), top in rows
    ]


def score_prompt(row: Row, logits: torch.Tensor) -> list[TokenScore | None] | RowFailure:
    """The scores of the prompt tokens that a row has come to, in order; the first of a prompt has None.

    Args:
        row: a row whose request asks for scores of its prompt.
        logits: fp32 [len(row.scored), vocabulary], those of the positions `row.scored`.
    """
    sequence = row.sequence
    top = sequence.request.sampling.prompt_logprobs or 0
    tokens = [sequence.tokens[position + 1] for position in row.scored]
    scores = score_tokens(logits, tokens, [top] * len(tokens)) if tokens else []
    if None in scores:
        return overflow(sequence)
    return scores if sequence.scored else [None, *scores]
