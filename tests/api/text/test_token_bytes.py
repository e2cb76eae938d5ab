"""The bytes of tokens, put together, are the bytes of the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from server.api.text.token_bytes import TokenBytes
from tests.api.tiny_tokenizer import SPECIAL, byte_fallback_tokenizer, byte_level_tokenizer

BYTE_LEVEL = byte_level_tokenizer()
BYTE_FALLBACK = byte_fallback_tokenizer()


def joined(tokenizer: Tokenizer, text: str) -> bytes:
    vocabulary = TokenBytes(tokenizer)
    return b"".join(vocabulary.of(token) for token in tokenizer.encode(text, add_special_tokens=False).ids)


def known(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None
    return token_id


@given(st.text(max_size=30))
def test_byte_level_tokens_are_the_text(text: str) -> None:
    assert joined(BYTE_LEVEL, text) == text.encode()


@given(st.text(alphabet="the cats東😀", max_size=30))
def test_sentencepiece_tokens_are_the_text_behind_a_space(text: str) -> None:
    assert joined(BYTE_FALLBACK, text).decode().removeprefix(" ") == text.removeprefix(" ")


def test_special_tokens_are_known() -> None:
    vocabulary = TokenBytes(BYTE_LEVEL)
    for name in SPECIAL:
        token = known(BYTE_LEVEL, name)
        assert vocabulary.is_special(token)
        assert vocabulary.of(token) == name.encode()
    assert not vocabulary.is_special(known(BYTE_LEVEL, "a"))


def test_an_added_token_outside_of_the_alphabet_is_plain_text() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["東京 tower"])
    assert TokenBytes(tokenizer).of(known(tokenizer, "東京 tower")) == "東京 tower".encode()


def test_an_id_that_the_tokenizer_does_not_know_has_no_bytes() -> None:
    assert TokenBytes(BYTE_LEVEL).of(10_000) == b""


@pytest.mark.parametrize("decoder", [None, decoders.WordPiece(prefix="##")])
def test_of_another_decoder_a_token_is_its_own_text(decoder: decoders.Decoder | None) -> None:
    tokenizer = Tokenizer(models.WordLevel({"word": 0, "other": 1}, unk_token="other"))
    if decoder is not None:
        tokenizer.decoder = decoder
    assert TokenBytes(tokenizer).of(0) == b"word"
