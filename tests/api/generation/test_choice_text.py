"""The text of a choice with its tokens: whatever the events, the same text, and every token at its place."""

from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.api.generation.choice_text import ChoiceText, EncodedPrompt, TextOptions
from server.api.generation.pieces import TextToken
from server.api.text.token_bytes import TokenBytes
from server.api.text.tokenization import Tokenization
from tests.api.scripted_engine import scored
from tests.api.tiny_tokenizer import byte_fallback_tokenizer, byte_level_tokenizer


@dataclass(frozen=True)
class _Vocabulary:
    """Of a `Tokenization`, what the text of a choice needs."""

    tokenizer: Tokenizer
    token_bytes: TokenBytes


def vocabulary(tokenizer: Tokenizer) -> Tokenization:
    return cast(Tokenization, _Vocabulary(tokenizer, TokenBytes(tokenizer)))


BYTE_LEVEL = vocabulary(byte_level_tokenizer())
BYTE_FALLBACK = vocabulary(byte_fallback_tokenizer())
SEEN = TextOptions(shows_tokens=True)


def read(
    tokenization: Tokenization, prompt: EncodedPrompt, ids: list[int], sizes: list[int], options: TextOptions
) -> tuple[str, list[TextToken]]:
    """Text and tokens of a choice whose tokens come in events of these sizes."""
    choice = ChoiceText(0, prompt, options, tokenization)
    pieces = [choice.begin([None, *(scored(token) for token in prompt.ids[1:])])]
    place = 0
    for size in [*sizes, len(ids)]:
        part = ids[place : place + size]
        place += len(part)
        last = place == len(ids)
        pieces.append(choice.push(part, [scored(token) for token in part], last=last))
        if last or choice.stop is not None:
            break
    shown = [piece for piece in pieces if piece is not None]
    tokens: list[TextToken] = []
    text = ""
    for piece in shown:
        text += piece.text
        tokens += piece.tokens
        assert all(token.offset < len(text) or token.special or not token.content for token in piece.tokens)
    return text, tokens


def ids_of(tokenization: Tokenization, text: str) -> list[int]:
    return list(tokenization.tokenizer.encode(text, add_special_tokens=False).ids)


texts = st.text(alphabet="the cats\nü東😀", max_size=24)
sizes = st.lists(st.integers(1, 4), max_size=8)


@pytest.mark.parametrize("tokenization", [BYTE_LEVEL, BYTE_FALLBACK], ids=["byte-level", "byte-fallback"])
@given(texts.filter(bool), texts, sizes)
def test_text_and_offsets_do_not_depend_on_how_the_tokens_came(
    tokenization: Tokenization, prompt: str, text: str, sizes: list[int]
) -> None:
    ids = ids_of(tokenization, prompt + text)
    before = ids_of(tokenization, prompt)
    if ids[: len(before)] != before or not prompt.strip():
        return  # SentencePiece takes the first space of a text away, also when it is all that there is
    whole, tokens = read(tokenization, EncodedPrompt(before, prompt), ids[len(before) :], sizes, SEEN)
    assert [token.token_id for token in tokens] == ids[len(before) :]
    assert [token.offset for token in tokens] == sorted(token.offset for token in tokens)
    assert b"".join(token.content for token in tokens) == whole.encode()
    for token in tokens:
        at = len(whole[: token.offset].encode())
        spelt = whole.encode()[at:]
        # One that begins inside a character has that character's place.
        assert token.content in spelt[: len(token.content) + 3]


@given(texts.filter(bool), texts, sizes)
def test_an_echo_is_the_prompt_and_then_the_text(prompt: str, text: str, sizes: list[int]) -> None:
    options = TextOptions(shows_tokens=True, echo=True)
    before, ids = ids_of(BYTE_LEVEL, prompt), ids_of(BYTE_LEVEL, text)
    whole, tokens = read(BYTE_LEVEL, EncodedPrompt(before, prompt), ids, sizes, options)
    assert whole == prompt + text
    assert [token.token_id for token in tokens] == before + ids
    assert tokens[0].logprob is None
    assert all(token.logprob is not None for token in tokens[1:])
    assert all(token.offset == len(prompt) for token in tokens[len(before) : len(before) + 1])


@given(texts, st.text(alphabet="the cats", min_size=1, max_size=3), sizes, st.booleans())
def test_tokens_end_where_a_stop_string_cut_the_text(text: str, stop: str, sizes: list[int], include: bool) -> None:
    options = TextOptions(stops=(stop,), include_stop=include, shows_tokens=True)
    ids = ids_of(BYTE_LEVEL, text)
    shown, tokens = read(BYTE_LEVEL, EncodedPrompt([5]), ids, sizes, options)
    found = text.find(stop)
    assert shown == (text if found < 0 else text[: found + (len(stop) if include else 0)])
    assert [token.token_id for token in tokens] == ids[: len(tokens)]
    spelt = b"".join(token.content for token in tokens)
    assert spelt.startswith(shown.encode())
    if tokens:
        assert len(spelt) - len(tokens[-1].content) <= len(shown.encode())


@pytest.mark.parametrize("skip", [True, False])
def test_a_special_token_takes_room_where_it_is_shown(skip: bool) -> None:
    ids = ids_of(BYTE_LEVEL, "a<|im_end|>b")
    options = TextOptions(shows_tokens=True, skip_special_tokens=skip)
    text, tokens = read(BYTE_LEVEL, EncodedPrompt([5]), ids, [1, 1], options)
    assert text == ("ab" if skip else "a<|im_end|>b")
    assert [token.offset for token in tokens] == ([0, 1, 1] if skip else [0, 1, 11])
    assert [token.special for token in tokens] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "offsets"),
    [("<|im_start|>a", [0, 12]), ("a", [0, 0])],
    ids=["the client wrote it", "the tokenizer added it"],
)
def test_a_special_token_of_an_echoed_prompt(text: str, offsets: list[int]) -> None:
    ids = ids_of(BYTE_LEVEL, "<|im_start|>a")
    options = TextOptions(shows_tokens=True, echo=True)
    shown, tokens = read(BYTE_LEVEL, EncodedPrompt(ids, text), ids_of(BYTE_LEVEL, "b"), [], options)
    assert shown == text + "b"
    assert [token.offset for token in tokens] == [*offsets, len(text)]
