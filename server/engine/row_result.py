"""From the logits of a step to what each of its rows gained."""

from dataclasses import dataclass, field

import torch

from server.engine.batch import Batch
from server.engine.messages import TokenScore
from server.engine.row_failure import RowFailure
from server.engine.sampling import sample
from server.engine.scoring import score_prompt, score_tokens


@dataclass
class RowResult:
    """The scores of the prompt tokens that a row came to, its next token with its score where asked for, or its end."""

    prompt_scores: list[TokenScore | None] = field(default_factory=list)
    token: int | None = None
    score: TokenScore | None = None
    failure: RowFailure | None = None


def row_results(batch: Batch, logits: torch.Tensor, eos_token_ids: frozenset[int]) -> list[RowResult]:
    """What each row of a batch gained.

    Args:
        batch: the step's rows.
        logits: fp32 [sum of the rows' `logits`, vocabulary], as `Runner.run` gives them.
        eos_token_ids: what ends an answer besides a request's own stop tokens.
    """
    results = [RowResult() for _ in batch.rows]
    _score_prompts(batch, logits, results)
    _choose_tokens(batch, logits, results, eos_token_ids)
    return results


def _score_prompts(batch: Batch, logits: torch.Tensor, results: list[RowResult]) -> None:
    at = 0
    for row, result in zip(batch.rows, results, strict=True):
        if row.sequence.unscored:
            scores = score_prompt(row, logits[at : at + len(row.scored)])
            if isinstance(scores, RowFailure):
                result.failure = scores
            else:
                result.prompt_scores = scores
        at += row.logits


def _choose_tokens(batch: Batch, logits: torch.Tensor, results: list[RowResult], eos_token_ids: frozenset[int]) -> None:
    last, at = [], 0
    for row in batch.rows:
        at += row.logits
        if row.sample:
            last.append(at - 1)
    if not last:
        return
    if len(last) < len(logits):
        logits = logits[last]
    sampled = [(row.sequence, result) for row, result in zip(batch.rows, results, strict=True) if row.sample]
    scored: list[tuple[int, int, int]] = []
    choices = sample(logits, [sequence for sequence, _ in sampled], eos_token_ids)
    for index, ((sequence, result), choice) in enumerate(zip(sampled, choices, strict=True)):
        if isinstance(choice, RowFailure):
            result.failure = choice
            continue
        result.token = choice
        top = sequence.request.sampling.logprobs
        if top is not None:
            scored.append((index, choice, top))
    if scored:
        rows, tokens, tops = zip(*scored, strict=True)
        for index, score in zip(rows, score_tokens(logits[list(rows)], tokens, tops), strict=True):
            sampled[index][1].score = score
