"""One request's tokens, hashes and end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.adapters.loader import LoadFailure
from server.engine.kv_cache import chain_hash, chain_root
from tests.engine.hand_made import sequence

EOS = frozenset({99})


@given(tokens=st.lists(st.integers(0, 50), min_size=1, max_size=30), split=st.integers(1, 30), size=st.integers(1, 5))
@settings(deadline=None)
def test_hashes_cover_the_full_blocks_and_are_the_same_however_the_tokens_came(
    tokens: list[int], split: int, size: int
) -> None:
    whole = sequence(tokens, "a").block_hashes(size)
    assert len(whole) == len(tokens) // size
    grown = sequence(tokens[:split], "a", max_tokens=100)
    for token in tokens[split:]:
        grown.block_hashes(size)
        grown.append(token, EOS)
    assert grown.block_hashes(size) == whole


def test_hashes_begin_with_the_adapter_that_answers() -> None:
    for one in (sequence([1, 2], "a"), sequence([1, 2])):
        assert one.block_hashes(2) == [chain_hash(chain_root(one.digest), [1, 2])]
    assert sequence([1, 2], "a").block_hashes(2) != sequence([1, 2], "b").block_hashes(2)


def test_a_fallback_answers_as_the_base_on_hashes_of_the_base() -> None:
    one = sequence([1, 2, 3, 4], "a")
    one.block_hashes(2)
    failure = LoadFailure("load_failed", "torn")
    one.fall_back(failure)
    assert (one.adapter, one.digest, one.failure) == (None, None, failure)
    assert one.block_hashes(2) == sequence([1, 2, 3, 4]).block_hashes(2)


def test_the_token_limit_is_reached_with_a_token_that_counts() -> None:
    one = sequence([1], max_tokens=2)
    ends = [(one.append(token, EOS), one.finished) for token in (5, 6)]
    assert ends == [(True, None), (True, "length")]
    assert (one.tokens, one.generated) == ([1, 5, 6], 2)


@pytest.mark.parametrize(
    ("token", "sampling", "ends"),
    [
        (99, {}, True),
        (99, {"ignore_eos": True}, False),
        (7, {"stop_token_ids": (7,)}, True),
        (99, {"stop_token_ids": (99,), "ignore_eos": True}, True),
        (8, {"stop_token_ids": (7,)}, False),
    ],
)
def test_a_stop_token_ends_the_sequence_and_is_no_part_of_it(token: int, sampling: dict[str, Any], ends: bool) -> None:
    one = sequence([1], **sampling)
    assert one.append(token, EOS) is not ends
    assert one.finished == ("stop" if ends else None)
    assert one.tokens == ([1] if ends else [1, token])


def test_the_prompt_of_the_request_is_left_as_it_came() -> None:
    one = sequence([1, 2])
    one.append(3, EOS)
    assert one.request.prompt == [1, 2]


def test_pending_is_what_has_no_keys_and_values_yet() -> None:
    one = sequence([1, 2, 3])
    assert one.pending == 3
    one.computed = 3
    one.append(4, EOS)
    assert one.pending == 1


def test_a_seed_fixes_the_random_numbers_and_none_leaves_them_open() -> None:
    assert sequence(seed=3).rng.random() == sequence(seed=3).rng.random()
    assert sequence(seed=3).rng.random() != sequence(seed=4).rng.random()
    assert sequence().rng.random() != sequence().rng.random()
