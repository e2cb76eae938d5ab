"""Scores are the log-softmax of the model's own logits."""

import math

import pytest
import torch

from server.engine.batch import Batch, Row
from server.engine.messages import TokenScore
from server.engine.row_failure import RowFailure
from server.engine.row_result import row_results
from server.engine.scoring import score_prompt, score_tokens
from tests.engine.hand_made import sequence

EOS = frozenset({99})


def test_a_score_is_the_log_softmax_with_as_many_of_the_likeliest_as_asked_for() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(1)) * 5
    expected = logits.log_softmax(-1)
    tokens, tops = [3, 0, 49, 7], [0, 5, 1, 60]
    for row, token, top, score in zip(expected, tokens, tops, score_tokens(logits, tokens, tops), strict=True):
        assert score is not None
        assert score.token_id == token
        assert score.logprob == pytest.approx(float(row[token]), abs=1e-5)
        likeliest = row.topk(min(top, 50))
        assert [token for token, _ in score.top] == likeliest.indices.tolist()
        assert [value for _, value in score.top] == pytest.approx(likeliest.values.tolist(), abs=1e-5)


def test_logits_that_are_no_numbers_have_no_score_and_fail_a_prompt() -> None:
    logits = torch.tensor([[0.0, 1.0], [math.nan, 0.0]])
    good, bad = score_tokens(logits, [0, 0], [1, 1])
    assert isinstance(good, TokenScore)
    assert bad is None
    one = sequence([1, 0, 1], prompt_logprobs=0)
    row = Row(one, 0, 3, True, None, scored=range(2))
    assert isinstance(score_prompt(row, logits), RowFailure)


def test_a_row_gets_its_prompts_scores_its_token_and_that_tokens_score() -> None:
    scored = sequence([4, 2, 1], prompt_logprobs=1, logprobs=2)
    plain = sequence([3])
    silent = sequence([3, 3], max_tokens=0)
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    rows = (
        Row(scored, 0, 3, True, None, scored=range(2)),
        Row(plain, 0, 1, True, None),
        Row(silent, 0, 2, False, None),
    )
    first, second, third = row_results(Batch(rows), logits[:4], EOS)
    assert [score and score.token_id for score in first.prompt_scores] == [None, 2, 1]
    assert first.token == int(logits[2].argmax())
    assert first.score is not None
    assert first.score.token_id == first.token
    assert len(first.score.top) == 2
    assert (second.token, second.score, second.prompt_scores) == (int(logits[3].argmax()), None, [])
    assert (third.token, third.failure) == (None, None)


def test_chunks_of_a_prompt_are_scored_in_order_and_none_twice() -> None:
    prompt = [5, 1, 4, 2, 3]
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))
    one = sequence(prompt, prompt_logprobs=0)
    got: list[TokenScore | None] = []
    for start, count in ((0, 2), (2, 2), (0, 4), (4, 1)):  # preempted after the second chunk
        scored = one.scored_by(start, count)
        row = Row(one, start, count, start + count == 5, None, scored=scored)
        (result,) = row_results(Batch((row,)), logits[list(scored) + [4] * row.sample], EOS)
        one.scored += len(result.prompt_scores)
        got += result.prompt_scores
    assert got[0] is None
    assert [score.token_id for score in got[1:] if score] == prompt[1:]
    expected = [float(logits[place].log_softmax(-1)[prompt[place + 1]]) for place in range(4)]
    assert [score.logprob for score in got[1:] if score] == pytest.approx(expected, abs=1e-5)
    assert not one.unscored


def test_only_what_was_scored_may_come_from_the_prefix_cache() -> None:
    one = sequence(range(20), prompt_logprobs=0)
    assert one.reusable == 0
    one.scored = 9
    assert one.reusable == 8
    one.scored = 20
    assert one.reusable == 19
    assert sequence(range(20)).reusable == 19
