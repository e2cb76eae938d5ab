"""The exact bytes of every token: what a token adds to a text, also where it ends inside a character."""

import json
import re
from typing import Any

from tokenizers import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: a printable character for every byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


class TokenBytes:
    """The bytes of one tokenizer's tokens, read off its decoder.

    Byte-level and byte-fallback (SentencePiece) decoders are known exactly; of any other a token's bytes are
    those of its own text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoders = _decoders(tokenizer)
        kinds = {decoder["type"] for decoder in decoders}
        self._byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self._replaced = [pair for decoder in decoders for pair in _replacements(decoder)]
        self._known: dict[int, bytes] = {}
        self._special = frozenset(
            token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )

    @property
    def spells_any_text(self) -> bool:
        """Whether characters that the vocabulary lacks are spelt in bytes, instead of being one unknown token."""
        return self._byte_level or self._byte_fallback

    def is_special(self, token_id: int) -> bool:
        """Whether the token is left out of a text that leaves special tokens out."""
        return token_id in self._special

    def of(self, token_id: int) -> bytes:
        """The bytes of a token; none for an id that the tokenizer does not know."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._read(token_id)
        return known

    def _read(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._byte_level:
            # As the decoder has it: a token with a character outside of the alphabet was added, and is plain text.
            if all(character in _ALPHABET for character in token):
                return bytes(_ALPHABET[character] for character in token)
            return str(token).encode()
        if self._byte_fallback and (byte := _BYTE_PIECE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if self._replaced:
            for old, new in self._replaced:
                token = token.replace(old, new)
            return str(token).encode()
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False)).encode()


def _decoders(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The tokenizer's decoder in its parts."""
    if tokenizer.decoder is None:
        return []
    decoder = json.loads(tokenizer.decoder.__getstate__())
    parts: list[dict[str, Any]] = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return parts


def _replacements(decoder: dict[str, Any]) -> list[tuple[str, str]]:
    """What a part of a decoder replaces in a token, where it is a fixed string."""
    if decoder["type"] == "Metaspace":
        return [(decoder["replacement"], " ")]
    if decoder["type"] == "Replace" and "String" in decoder["pattern"]:
        return [(decoder["pattern"]["String"], decoder["content"])]
    return []
