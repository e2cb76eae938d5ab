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
    failures = _apply_masks(logits, sequences, eos_token_ids)
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


def _apply_masks(
    logits: torch.Tensor, sequences: Seq[Sequence], eos_token_ids: frozenset[int]
) -> dict[int, RowFailure]:
    """Only what the grammars allow."""
    failures: dict[int, RowFailure] = {}
    for row, sequence in enumerate(sequences):
        if sequence.constraint is None:
            continue
        try:
            allowed = _allowed(sequence.constraint.mask()[: logits.shape[-1]], sequence, eos_token_ids)
        except (RuntimeError, ValueError) as error:
            failures[row] = RowFailure(f"the grammar cannot be followed further: {error}", "invalid_value")
            continue
        logits[row, : len(allowed)].masked_fill_(~allowed.to(logits.device), -math.inf)
        logits[row, len(allowed) :] = -math.inf
    return failures


def _allowed(mask: torch.Tensor, sequence: Sequence, eos_token_ids: frozenset[int]) -> torch.Tensor:
    """A grammar's mask with the request's own end tokens, which an adapter may have, where the answer may end."""
    stops = [token for token in sequence.request.sampling.stop_token_ids if token < len(mask)]
    ends = [token for token in eos_token_ids if token < len(mask)]
    if not stops or not ends or not bool(mask[ends].any()):
        return mask
    allowed = mask.clone()
    allowed[stops] = True
    return allowed


def _penalise_repetition(logits: torch.Tensor, sequences: Seq[Sequence]) -> None:
    """Divide the positive logits of the tokens of prompt and answer, multiply the others (Keskar et al. 2019)."""
    rows = [row for row, sequence in enumerate(sequences) if sequence.request.sampling.repetition_penalty != 1]
    if not rows:
        return
    places, _ = _places(logits, [(row, sequences[row].seen.follow(sequences[row].tokens)) for row in rows])
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
    places, counts = _places(logits, [(row, sequences[row].answered.follow(sequences[row].tokens)) for row in rows])
    row_of = places // logits.shape[-1]
    frequency = logits.new_tensor([of.frequency_penalty for of in params])[row_of]
    presence = logits.new_tensor([of.presence_penalty for of in params])[row_of]
    logits.view(-1)[places] -= frequency * counts + presence


def _places(
    logits: torch.Tensor, histories: Seq[tuple[int, tuple[torch.Tensor, torch.Tensor]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the different tokens of these rows lie in the flattened logits, and how often each occurred."""
    vocabulary = logits.shape[-1]
    places, counts = [], []
    for row, (ids, often) in histories:
        known = ids < vocabulary
        places.append(ids[known] + row * vocabulary)
        counts.append(often[known])
    return torch.cat(places).to(logits.device), torch.cat(counts).to(logits.device)
