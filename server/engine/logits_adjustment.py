"""What requests ask to be changed in their logits before a token is chosen.

All functions work in place on fp32 [rows, vocabulary], over all rows at once. Their cost is that of the tokens
they touch, not of the vocabulary, a grammar's mask excepted. Token ids beyond the logits (an embedding may be
larger than its head) have no effect.
"""

import math
from collections.abc import Sequence as Seq

import torch

from server.engine.row_failure import RowFailure
from server.engine.sequence import Sequence


def is_adjusted(sequence: Sequence) -> bool:
    """Does the next token of a sequence depend on anything but the model's own logits?"""
    params = sequence.request.sampling
    return (
        sequence.constraint is not None
        or sequence.generated < params.min_tokens
        or params.repetition_penalty != 1
        or params.frequency_penalty != 0
        or params.presence_penalty != 0
        or bool(params.logit_bias)
    )


def adjust(logits: torch.Tensor, sequences: Seq[Sequence], eos_token_ids: frozenset[int]) -> dict[int, RowFailure]:
    """Apply what each row's request asks for, in the order that `server.engine.sampling` states.

    Args:
        logits: fp32 [rows, vocabulary], contiguous; changed in place.
        sequences: the rows' sequences.
        eos_token_ids: what ends an answer besides a request's own stop tokens.

    Returns:
        The rows, by index, whose grammar gave up.
    """
    _add_biases(logits, sequences)
    _forbid_ends(logits, sequences, eos_token_ids)
    failures = _apply_masks(logits, sequences)
    _penalise_repetition(logits, sequences)
    _penalise_frequency(logits, sequences)
    return failures


def _add_biases(logits: torch.Tensor, sequences: Seq[Sequence]) -> None:
    """OpenAI's `logit_bias`."""
    vocabulary = logits.shape[-1]
    biases = [
        (row * vocabulary + token, bias)
        for row, sequence in enumerate(sequences)
        for token, bias in sequence.request.sampling.logit_bias.items()
        if token < vocabulary
    ]
    if biases:
        places = torch.tensor([place for place, _ in biases], device=logits.device)
        logits.view(-1)[places] += torch.tensor([bias for _, bias in biases], dtype=logits.dtype, device=logits.device)


def _forbid_ends(logits: torch.Tensor, sequences: Seq[Sequence], eos_token_ids: frozenset[int]) -> None:
    """No token that ends the answer before `min_tokens` are there."""
    vocabulary = logits.shape[-1]
    ends = [
        row * vocabulary + token
        for row, sequence in enumerate(sequences)
        if sequence.generated < sequence.request.sampling.min_tokens
        for token in sequence.end_tokens(eos_token_ids)
        if token < vocabulary
    ]
    if ends:
        logits.view(-1)[torch.tensor(ends, device=logits.device)] = -math.inf


def _apply_masks(logits: torch.Tensor, sequences: Seq[Sequence]) -> dict[int, RowFailure]:
    """Only what the grammars allow."""
    failures: dict[int, RowFailure] = {}
    for row, sequence in enumerate(sequences):
        if sequence.constraint is None:
            continue
        try:
            allowed = sequence.constraint.mask()[: logits.shape[-1]].to(logits.device)
        except (RuntimeError, ValueError) as error:
            failures[row] = RowFailure(f"the grammar's engine gave up: {error}")
            continue
        logits[row, : len(allowed)].masked_fill_(~allowed, -math.inf)
        logits[row, len(allowed) :] = -math.inf
    return failures


def _penalise_repetition(logits: torch.Tensor, sequences: Seq[Sequence]) -> None:
    """Divide the positive logits of the tokens of prompt and answer, multiply the others (Keskar et al. 2019)."""
    rows = [row for row, sequence in enumerate(sequences) if sequence.request.sampling.repetition_penalty != 1]
    if not rows:
        return
    # A token that occurs twice is read before, and written after, so that it is penalised once.
    places = _places(logits, [(row, sequences[row].tokens) for row in rows])
    penalties = logits.new_tensor([sequence.request.sampling.repetition_penalty for sequence in sequences])
    penalty = penalties[places // logits.shape[-1]]
    flat = logits.view(-1)
    before = flat[places]
    flat[places] = torch.where(before < 0, before * penalty, before / penalty)


def _penalise_frequency(logits: torch.Tensor, sequences: Seq[Sequence]) -> None:
    """Take off, for each token of the answer, `frequency` times its count and `presence` once.

    The formula is OpenAI's: logit - count * frequency_penalty - (count > 0) * presence_penalty.
    """
    params = [sequence.request.sampling for sequence in sequences]
    rows = [row for row, of in enumerate(params) if of.frequency_penalty != 0 or of.presence_penalty != 0]
    if not rows:
        return
    answers = [(row, sequences[row].tokens[len(sequences[row].request.prompt) :]) for row in rows]
    places, counts = torch.unique(_places(logits, answers), return_counts=True)
    row_of = places // logits.shape[-1]
    frequency = logits.new_tensor([of.frequency_penalty for of in params])[row_of]
    presence = logits.new_tensor([of.presence_penalty for of in params])[row_of]
    logits.view(-1)[places] -= frequency * counts + presence


def _places(logits: torch.Tensor, tokens: Seq[tuple[int, Seq[int]]]) -> torch.Tensor:
    """Where the tokens of these rows lie in the flattened logits, repeated as they are."""
    vocabulary = logits.shape[-1]
    places = []
    for row, ids in tokens:
        in_row = torch.tensor(ids, dtype=torch.long)
        places.append(in_row[in_row < vocabulary] + row * vocabulary)
    return torch.cat(places).to(logits.device)
