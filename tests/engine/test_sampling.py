"""The next token: greedy, tempered, cut to the likeliest, and the same for a seed in any company."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.engine import sampling
from server.engine.row_failure import overflow
from server.engine.sampling import sample
from server.engine.sequence import Sequence
from tests.engine.hand_made import sequence


def next_token(logits: torch.Tensor, one: Sequence) -> int:
    """Choose a token, and take it."""
    (token,) = sample(logits[None], [one])
    assert isinstance(token, int)
    one.append(token, frozenset())
    return token


class Uniform(random.Random):
    """A generator that says what it is told to."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


def drawn(logits: torch.Tensor, uniform: float, **params: Any) -> int:
    """The token of one row where the generator gives `uniform`."""
    one = sequence(**params)
    one.rng = Uniform(uniform)
    (token,) = sample(logits[None], [one])
    assert isinstance(token, int)
    return token


def distribution(logits: torch.Tensor, *, draws: int, **params: Any) -> Counter[int]:
    """How often each token comes when the generator's numbers are spread evenly over [0, 1)."""
    return Counter(drawn(logits, (index + 0.5) / draws, **params) for index in range(draws))


def reference(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """The probabilities, by the definitions and in plain Python."""
    largest = max(logits)
    weights = {token: math.exp((logit - largest) / temperature) for token, logit in enumerate(logits)}
    likeliest = sorted(weights, key=lambda token: -weights[token])[: top_k or len(logits)]
    mass = sum(weights[token] for token in likeliest)
    kept, reached = [], 0.0
    for token in likeliest:
        assume(abs(reached - top_p) > 1e-9 or top_p == 1)
        if reached < top_p:
            kept.append(token)
        reached += weights[token] / mass
    mass = sum(weights[token] for token in kept)
    return {token: weights[token] / mass for token in kept}


def as_fp32(values: list[float]) -> list[float]:
    return [float(value) for value in torch.tensor(values, dtype=torch.float32)]


different_logits = st.lists(
    st.floats(-8, 8, width=32).map(lambda value: round(value, 3)), min_size=1, max_size=12, unique=True
).map(as_fp32)


@given(
    logits=different_logits,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    top_k=st.integers(0, 14),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.99)),
)
@settings(max_examples=150, deadline=None)
def test_each_token_gets_its_share_of_the_generators_numbers(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    draws = 60
    expected = reference(logits, temperature, top_k, top_p)
    counts = distribution(torch.tensor(logits), draws=draws, temperature=temperature, top_k=top_k, top_p=top_p)
    assert set(counts) <= set(expected)
    for token, probability in expected.items():
        assert abs(counts[token] - draws * probability) <= 1 + 1e-6


def test_frequencies_follow_the_probabilities() -> None:
    logits, draws = torch.tensor([1.0, 0.0, 2.0, -1.0]), 4000
    one = sequence(temperature=1.0, seed=7, max_tokens=draws)
    counts = Counter(next_token(logits, one) for _ in range(draws))
    for token, probability in enumerate(torch.softmax(logits, 0).tolist()):
        deviation = math.sqrt(draws * probability * (1 - probability))
        assert abs(counts[token] - draws * probability) < 5 * deviation


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
@settings(deadline=None)
def test_temperature_zero_takes_the_likeliest_token_and_no_random_number(logits: list[float]) -> None:
    row = torch.tensor(logits)
    one = sequence(temperature=0.0, seed=1)
    state = one.rng.getstate()
    assert sample(row[None], [one]) == [int(row.argmax())]
    assert one.rng.getstate() == state


@pytest.mark.parametrize(
    "params", [{"top_p": 1e-9}, {"top_k": 1}, {"temperature": 1e-3}, {"temperature": 1e-40}, {"temperature": 5e-324}]
)
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_the_narrowest_choice_is_the_likeliest_token(params: dict[str, Any], uniform: float) -> None:
    logits = torch.tensor([1.0, 5.0, 2.0, 0.0])
    assert drawn(logits, uniform, **({"temperature": 1.0} | params)) == 1


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn(uniform: float) -> None:
    logits = torch.tensor([-math.inf, 0.0, 1.0, -math.inf])
    for params in ({}, {"top_k": 3}, {"top_p": 0.999}):
        assert drawn(logits, uniform, temperature=1.0, **params) in {1, 2}


def test_a_top_k_beyond_the_vocabulary_takes_all_of_it() -> None:
    logits = torch.tensor([1.0, 1.0, 1.0])
    assert set(distribution(logits, draws=9, temperature=1.0, top_k=99)) == {0, 1, 2}


def company(*, seed: int) -> list[Sequence]:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.5, "seed": seed + 1},
        {"temperature": 1.0, "top_k": 3, "seed": seed + 2},
        {"temperature": 1.0, "top_p": 0.5},
        {"temperature": 1.0},
    ]
    return [sequence(**kind) for kind in kinds]


@pytest.mark.parametrize("params", [{}, {"top_p": 0.9}, {"top_k": 20}, {"top_k": 20, "top_p": 0.8}])
def test_a_seed_gives_the_same_tokens_in_any_company_and_at_any_place(params: dict[str, Any]) -> None:
    torch.manual_seed(0)
    steps = torch.randn(20, 50)
    alone = sequence(temperature=1.0, seed=11, **params)
    tokens = [next_token(step, alone) for step in steps]
    assert len(set(tokens)) > 5
    for place in range(6):
        again = sequence(temperature=1.0, seed=11, **params)
        batch = company(seed=place)
        batch.insert(place, again)
        for step, token in zip(steps, tokens, strict=True):
            rows = torch.randn(len(batch), 50)
            rows[place] = step
            assert sample(rows, batch)[place] == token
            assert sample(rows, batch)[place] == token, "a step that runs again draws no further number"
            for one, taken in zip(batch, sample(rows, batch), strict=True):
                assert isinstance(taken, int)
                one.append(taken, frozenset())


def test_a_row_that_overflowed_gets_no_token_and_leaves_the_others_theirs() -> None:
    logits = torch.randn(4, 9)
    logits[1:3] = torch.tensor([[math.nan], [math.inf]])
    for params in ({}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.5}, {"top_k": 3}):
        batch = [sequence(temperature=1.0, seed=index, **params) for index in range(4)]
        tokens = sample(logits, batch)
        assert tokens[1:3] == [overflow(batch[1]), overflow(batch[2])]
        for index in (0, 3):
            assert (
                tokens[index] == sample(logits[index : index + 1], [sequence(temperature=1.0, seed=index, **params)])[0]
            )


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 0.9), (0, 0.2), (2000, 1.0), (2000, 0.9), (1500, 0.3), (3, 0.9), (5000, 0.99)]
)
def test_choices_wider_than_the_first_candidates_are_as_exact(
    top_k: int, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    logits = torch.randn(3000) / 4
    assert sampling._CANDIDATES < 1500
    wide = [drawn(logits, index / 50, temperature=1.0, top_k=top_k, top_p=top_p) for index in range(50)]
    monkeypatch.setattr(sampling, "_CANDIDATES", 3000)
    assert wide == [drawn(logits, index / 50, temperature=1.0, top_k=top_k, top_p=top_p) for index in range(50)]
    assert set(wide) <= set(reference(logits.tolist(), 1.0, top_k, top_p))
    assert len(set(wide)) >= min(40, top_k or 40)


def test_no_row_gives_no_token() -> None:
    assert sample(torch.zeros(0, 9), []) == []
