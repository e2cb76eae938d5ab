"""Biases, forbidden ends, masks and penalties: transformers' processors and OpenAI's formula are the reference."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.logits_process import MinPLogitsWarper

from server.engine.logits_adjustment import adjust, is_adjusted
from server.engine.messages import SamplingParams
from server.engine.row_failure import RowFailure
from server.engine.sampling import keep_likely, sample
from server.engine.sequence import Sequence
from tests.engine.hand_made import sequence

VOCABULARY = 23
EOS = frozenset({5, 7})

tokens = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12)
answers = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)
logits_rows = st.lists(st.floats(-9, 9, width=32), min_size=VOCABULARY, max_size=VOCABULARY).map(torch.tensor)


class Allowing:
    """A grammar that allows the same tokens at every place."""

    def __init__(self, *allowed: int, size: int = VOCABULARY) -> None:
        self._mask = torch.zeros(size, dtype=torch.bool)
        self._mask[list(allowed)] = True
        self.taken: list[int] = []

    def mask(self) -> torch.Tensor:
        return self._mask

    def advance(self, token: int) -> None:
        self.taken.append(token)


class Broken(Allowing):
    """A grammar whose engine gives up."""

    def mask(self) -> torch.Tensor:
        raise RuntimeError("too many items")


def answering(prompt: list[int], answer: list[int], **sampling: Any) -> Sequence:
    """A sequence that has generated `answer` so far."""
    one = sequence(prompt, **({"max_tokens": 99, "ignore_eos": True} | sampling))
    one.tokens += answer
    return one


def adjusted(row: torch.Tensor, one: Sequence, eos: frozenset[int] = EOS) -> torch.Tensor:
    rows = row.clone()[None]
    assert adjust(rows, [one], eos) == {}
    return rows[0]


@given(row=logits_rows, prompt=tokens, answer=answers, penalty=st.sampled_from([0.5, 1.1, 1.3, 2.0]))
@settings(max_examples=60, deadline=None)
def test_the_repetition_penalty_is_transformers(
    row: torch.Tensor, prompt: list[int], answer: list[int], penalty: float
) -> None:
    seen = torch.tensor([prompt + answer])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(seen, row.clone()[None])[0]
    given_by_us = adjusted(row, answering(prompt, answer, repetition_penalty=penalty))
    torch.testing.assert_close(given_by_us, expected, rtol=0, atol=0)


@given(
    row=logits_rows,
    prompt=tokens,
    answer=answers,
    frequency=st.floats(-2, 2, width=32),
    presence=st.floats(-2, 2, width=32),
)
@settings(max_examples=60, deadline=None)
def test_frequency_and_presence_follow_openais_formula(
    row: torch.Tensor, prompt: list[int], answer: list[int], frequency: float, presence: float
) -> None:
    one = answering(prompt, answer, frequency_penalty=frequency, presence_penalty=presence)
    expected = [
        logit - answer.count(token) * frequency - (token in answer) * presence
        for token, logit in enumerate(row.tolist())
    ]
    torch.testing.assert_close(adjusted(row, one), torch.tensor(expected), rtol=1e-6, atol=1e-5)


@given(row=logits_rows, prompt=tokens, answer=answers, least=st.integers(0, 14))
@settings(max_examples=60, deadline=None)
def test_min_tokens_are_transformers_min_new_tokens(
    row: torch.Tensor, prompt: list[int], answer: list[int], least: int
) -> None:
    processor = MinNewTokensLengthLogitsProcessor(len(prompt), least, sorted(EOS), device="cpu")
    expected = processor(torch.tensor([prompt + answer]), row.clone()[None])[0]
    torch.testing.assert_close(adjusted(row, answering(prompt, answer, min_tokens=least, ignore_eos=False)), expected)


def test_before_min_tokens_a_requests_own_stop_tokens_are_forbidden_too_and_an_ignored_end_is_not() -> None:
    row = torch.zeros(VOCABULARY)
    stopping = adjusted(row, answering([1], [], min_tokens=1, stop_token_ids=(3,), ignore_eos=False))
    assert [token for token in range(VOCABULARY) if stopping[token] == -math.inf] == [3, 5, 7]
    ignoring = adjusted(row, answering([1], [], min_tokens=1, stop_token_ids=(3,)))
    assert [token for token in range(VOCABULARY) if ignoring[token] == -math.inf] == [3]


@given(
    row=logits_rows, bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-100, 100, width=32), min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_a_bias_is_transformers_sequence_bias(row: torch.Tensor, bias: dict[int, float]) -> None:
    processor = SequenceBiasLogitsProcessor([[[token], value] for token, value in bias.items()])
    expected = processor(torch.tensor([[1]]), row.clone()[None])[0]
    torch.testing.assert_close(adjusted(row, answering([1], [], logit_bias=bias)), expected)


def test_ids_beyond_the_logits_have_no_effect() -> None:
    row = torch.zeros(VOCABULARY)
    one = answering([1, 99], [99], logit_bias={99: 5.0}, repetition_penalty=2.0, frequency_penalty=1.0, min_tokens=9)
    torch.testing.assert_close(adjusted(row, one, eos=frozenset({99})), row)


@pytest.mark.parametrize("size", [VOCABULARY - 4, VOCABULARY, VOCABULARY + 4])
def test_a_mask_allows_what_it_names_and_nothing_past_its_end(size: int) -> None:
    one = answering([1], [])
    one.constraint = Allowing(2, 11, size=size)
    row = adjusted(torch.arange(VOCABULARY).float(), one)
    assert [token for token in range(VOCABULARY) if row[token] > -math.inf] == [2, 11]
    assert sample(torch.arange(VOCABULARY).float()[None], [one]) == [11]


@pytest.mark.parametrize(("allowed", "ends"), [((2, 5), [2, 3, 5]), ((2,), [2])])
def test_where_a_grammar_may_end_so_may_the_request_by_its_own_stop_token(
    allowed: tuple[int, ...], ends: list[int]
) -> None:
    one = answering([1], [], stop_token_ids=(3, 99))
    constraint = one.constraint = Allowing(*allowed)
    row = adjusted(torch.zeros(VOCABULARY), one)
    assert [token for token in range(VOCABULARY) if row[token] > -math.inf] == ends
    assert constraint.mask().nonzero().flatten().tolist() == list(allowed)


def test_rows_are_adjusted_each_by_its_own_wishes() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(5, VOCABULARY, generator=generator)
    wishes: list[dict[str, Any]] = [
        {},
        {"repetition_penalty": 1.4},
        {"frequency_penalty": 0.5, "logit_bias": {3: 4.0}},
        {"presence_penalty": 1.5, "repetition_penalty": 0.7},
        {"min_tokens": 6, "stop_token_ids": (1,)},
    ]
    batch = [answering([index, 2], [3, 3, index], **wish) for index, wish in enumerate(wishes)]
    together = rows.clone()
    adjust(together, batch, EOS)
    for row, one, before in zip(together, batch, rows, strict=True):
        torch.testing.assert_close(row, adjusted(before, one))
    assert [is_adjusted(one) for one in batch] == [False, True, True, True, True]


def test_a_grammar_that_gives_up_ends_its_own_row_and_no_other() -> None:
    broken, fine = answering([1], []), answering([1], [])
    broken.constraint = Broken()
    row = torch.arange(VOCABULARY).float()
    failed, token = sample(torch.stack((row, row)), [broken, fine])
    assert failed == RowFailure("the grammar cannot be followed further: too many items", "invalid_value")
    assert token == VOCABULARY - 1


def test_what_leaves_no_token_is_the_requests_own_fault() -> None:
    row = torch.zeros(2)
    blocked = answering([1], [], min_tokens=3, stop_token_ids=(0, 1))
    dead = answering([1], [])
    dead.constraint = Allowing()
    held = answering([1], [], min_tokens=3, stop_token_ids=(0,))
    held.constraint = Allowing(0)
    huge = answering([1], [], repetition_penalty=1e-38)
    huge.tokens = [0, 1]
    failures = [sample(row[None] + 9, [one])[0] for one in (blocked, dead, held)]
    failures += sample(torch.full((1, 2), 1e30), [huge])
    assert all(isinstance(failure, RowFailure) and failure.code == "invalid_value" for failure in failures)
    messages = [failure.message for failure in failures if isinstance(failure, RowFailure)]
    assert ["min_tokens" in message for message in messages] == [True, False, True, False]
    assert "dead end" in messages[1]
    assert "overflow" in messages[3]


@given(
    row=logits_rows,
    top_k=st.integers(1, VOCABULARY),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.01, 0.9),
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
)
@settings(max_examples=80, deadline=None)
def test_the_tokens_that_may_be_drawn_are_those_of_transformers_warpers(
    row: torch.Tensor, top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    row = row + torch.arange(VOCABULARY) * 1e-3  # ties are cut in another order
    scores = row.double()[None] / temperature
    for warper in (TopKLogitsWarper(top_k), TopPLogitsWarper(top_p), MinPLogitsWarper(min_p)):
        scores = warper(torch.LongTensor([[1]]), scores)
    params = SamplingParams(max_tokens=1, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    weights, ids = keep_likely(row, params)
    assert ids is not None
    kept = dict(zip(ids.tolist(), (weights / weights.sum()).tolist(), strict=True))
    expected = {token: value for token, value in enumerate(scores.softmax(-1)[0].tolist()) if value > 0}
    assert kept.keys() == expected.keys()
    assert kept == pytest.approx(expected, rel=1e-4)
