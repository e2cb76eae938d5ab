"""Incremental detokenisation: the chunks make up the whole text, and no character is ever split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.api.text.detokenizer import Detokenizer
from tests.api.tiny_tokenizer import byte_fallback_tokenizer, byte_level_tokenizer

BYTE_LEVEL = byte_level_tokenizer()
BYTE_FALLBACK = byte_fallback_tokenizer()

any_ids = st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=60)
scripts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40)


def piece(text: str, tokenizer: Tokenizer = BYTE_FALLBACK) -> int:
    found = tokenizer.token_to_id(text)
    assert found is not None
    return found


def chunks_of(tokenizer: Tokenizer, ids: list[int], prompt: list[int] | None = None) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt or [])
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@given(any_ids)
def test_any_ids_give_the_text_of_decoding_them_at_once(ids: list[int]) -> None:
    assert "".join(chunks_of(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids, skip_special_tokens=True)


@given(any_ids, any_ids)
def test_a_prompt_before_them_changes_nothing_in_byte_level_text(prompt: list[int], ids: list[int]) -> None:
    assert "".join(chunks_of(BYTE_LEVEL, ids, prompt)) == BYTE_LEVEL.decode(ids, skip_special_tokens=True)


@given(scripts)
def test_valid_text_never_shows_a_replacement_character(text: str) -> None:
    chunks = chunks_of(BYTE_LEVEL, BYTE_LEVEL.encode(text).ids)
    assert "".join(chunks) == text
    assert not any("\ufffd" in chunk for chunk in chunks)


@given(scripts.filter(lambda text: "▁" not in text))
def test_byte_fallback_text_survives(text: str) -> None:
    ids = BYTE_FALLBACK.encode("the " + text).ids
    assert "".join(chunks_of(BYTE_FALLBACK, ids)) == BYTE_FALLBACK.decode(ids)


@given(st.lists(st.integers(0, BYTE_FALLBACK.get_vocab_size() - 1), max_size=40))
def test_broken_bytes_in_byte_fallback_end_no_stream(ids: list[int]) -> None:
    chunks_of(BYTE_FALLBACK, ids)


def test_a_byte_that_spoils_earlier_ones_takes_nothing_back() -> None:
    euro = [piece(f"<0x{byte:02X}>") for byte in "€".encode()]
    cat = piece("▁cat")
    assert chunks_of(BYTE_FALLBACK, [*euro, euro[0], cat]) == ["", "", "€", "", "\ufffd cat", ""]


def test_the_first_word_after_a_prompt_keeps_its_space() -> None:
    the, cat = piece("▁the"), piece("▁cat")
    assert chunks_of(BYTE_FALLBACK, [cat], prompt=[the]) == [" cat", ""]
    assert chunks_of(BYTE_FALLBACK, [cat]) == ["cat", ""]


def test_a_prompt_of_characters_in_bytes_is_text_before_the_first_word() -> None:
    capital = BYTE_FALLBACK.encode("東京").ids
    assert chunks_of(BYTE_FALLBACK, [piece("▁cat")], prompt=capital) == [" cat", ""]


def test_an_unfinished_character_ends_as_one_replacement_character() -> None:
    ids = BYTE_LEVEL.encode("a😀").ids
    assert chunks_of(BYTE_LEVEL, ids[:-1])[-1] == "\ufffd"


def test_special_tokens_are_left_out() -> None:
    ids = BYTE_LEVEL.encode("a<|im_end|>b").ids
    assert "".join(chunks_of(BYTE_LEVEL, ids)) == "ab"


def test_an_id_outside_the_vocabulary_is_no_text() -> None:
    a, b = BYTE_LEVEL.encode("ab").ids
    assert "".join(chunks_of(BYTE_LEVEL, [a, 99_999, b])) == "ab"


@pytest.mark.parametrize("length", [9, 100, 1000])
def test_an_endless_run_of_broken_bytes_is_shown_as_it_comes(length: int) -> None:
    continuation = piece("Ģ", BYTE_LEVEL)  # byte 0x80
    chunks = chunks_of(BYTE_LEVEL, [continuation] * length)
    assert "".join(chunks) == "\ufffd" * length
    assert len(chunks[-1]) <= 8
