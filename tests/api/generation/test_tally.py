"""What several choices come to together."""

from server.api.generation.pieces import Ending, Opening
from server.api.generation.tally import Tally, same_origin

ORIGIN = {"adapter": "base", "digest": None, "fallback": None, "cached_tokens": 0}


def opening(index: int, prompt: int, tokens: int, cached: int = 0, **origin: object) -> Opening:
    return Opening(index, prompt, [1] * tokens, cached, {**ORIGIN, "cached_tokens": cached, **origin})


def test_a_prompt_counts_once_and_every_generated_token() -> None:
    tally = Tally()
    for index in range(4):
        tally.open(opening(index, index // 2, tokens=10 + index // 2, cached=[0, 8, 9, 4][index]))
        tally.close(Ending(index, "stop", None, generated=index))
    assert tally.usage() == {
        "prompt_tokens": 21,
        "completion_tokens": 6,
        "total_tokens": 27,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_the_origin_is_that_of_the_first_choice_with_what_all_found_in_the_cache() -> None:
    tally = Tally()
    tally.open(opening(1, 1, 5, 2, adapter="two"))
    tally.open(opening(0, 0, 5, 3, adapter="one"))
    assert tally.origin() == {**ORIGIN, "adapter": "one", "cached_tokens": 5}


def test_a_choice_that_fell_back_goes_first() -> None:
    tally = Tally()
    fallback = {"reason": "timeout", "detail": None}
    tally.open(opening(0, 0, 5))
    tally.open(opening(1, 0, 5, fallback=fallback))
    assert tally.origin()["fallback"] == fallback


def test_what_was_cached_is_no_difference_of_origin() -> None:
    assert same_origin(ORIGIN, {**ORIGIN, "cached_tokens": 5})
    assert not same_origin(ORIGIN, {**ORIGIN, "adapter": "support"})
