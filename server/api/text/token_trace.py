"""Tokens beside the text that they write: which of them the client may see, and where each begins."""

import codecs
import dataclasses
from collections import deque
from collections.abc import Sequence

from server.api.generation.pieces import Candidate, TextToken
from server.api.text.token_bytes import TokenBytes
from server.engine.messages import TokenScore

_CONTINUATION = range(0x80, 0xC0)


class TokenTrace:
    """The tokens of one text, each kept until the text that it begins in is shown.

    `start` is the place of the text's first character. A token that begins inside a character has that
    character's place. With `skip_special_tokens` a special token takes no room.
    """

    def __init__(self, vocabulary: TokenBytes, *, start: int = 0, skip_special_tokens: bool = True) -> None:
        self._vocabulary = vocabulary
        self._skips = skip_special_tokens
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._start = start
        self._length = 0
        self._held: deque[TextToken] = deque()

    def push(self, token_ids: Sequence[int], scores: Sequence[TokenScore | None]) -> None:
        """Take more tokens; `scores` has one for each of them, or none at all."""
        for place, token_id in enumerate(token_ids):
            content = self._vocabulary.of(token_id)
            special = self._vocabulary.is_special(token_id)
            offset = self._start + self._advance(b"" if special and self._skips else content)
            score = scores[place] if place < len(scores) else None
            if score is None:
                self._held.append(TextToken(token_id, content, offset, special))
            else:
                top = [Candidate(likely, self._vocabulary.of(likely), logprob) for likely, logprob in score.top]
                self._held.append(TextToken(token_id, content, offset, special, score.logprob, top))

    def _advance(self, content: bytes) -> int:
        """Append bytes to the text; return the character at which they begin."""
        before, pending = self._length, bool(self._characters.getstate()[0])
        self._length += len(self._characters.decode(content))
        # An unfinished character that these bytes do not continue stays in the text as one replacement character.
        return before + (pending and bool(content) and content[0] not in _CONTINUATION)

    def shown(self, characters: int) -> list[TextToken]:
        """Those that begin before the place `characters`, where the text is certain up to it."""
        ready = 0
        for count, token in enumerate(self._held, start=1):
            if token.offset < characters:
                ready = count
        return [self._held.popleft() for _ in range(ready)]

    def rest(self) -> list[TextToken]:
        """All that are still held: the text ended by itself."""
        rest = list(self._held)
        self._held.clear()
        return rest


def traced_prompt(
    vocabulary: TokenBytes,
    ids: Sequence[int],
    text: str,
    scores: Sequence[TokenScore | None],
    *,
    skip_special_tokens: bool = True,
) -> list[TextToken]:
    """The tokens of a prompt beside its text."""
    trace = TokenTrace(vocabulary, skip_special_tokens=skip_special_tokens)
    trace.push(ids, scores)
    tokens = trace.rest()
    # SentencePiece writes a space before a text's first word that is no part of the text.
    first = next((place for place, token in enumerate(tokens) if not token.special and token.content), None)
    if first is None or not tokens[first].content.startswith(b" ") or text.startswith(" "):
        return tokens
    word = dataclasses.replace(tokens[first], content=tokens[first].content[1:])
    moved = [dataclasses.replace(token, offset=token.offset - 1) for token in tokens[first + 1 :]]
    return [*tokens[:first], word, *moved]
