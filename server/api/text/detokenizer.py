"""Token ids to text, as they come, without ever splitting a character."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_REPLACEMENT = "\ufffd"

# A UTF-8 character has at most four bytes. Ids that are held for longer than this come from tokens that end
# inside a character, or are no text at all; what is settled among them is then released by hand.
_RELEASE_EVERY = 8

# Prompt ids that the first new token is decoded after: SentencePiece drops the space before a text's first word.
_CONTEXT = 4


class Detokenizer:
    """Incremental decoding of one generation by `DecodeStream`; special tokens are left out, unless told otherwise.

    `prompt` gives the ids that precede the first new one. The chunks and the final `flush`, put together, are
    the text that decoding all ids at once gives.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = (), *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skips = skip_special_tokens
        self._stream = DecodeStream(skip_special_tokens=skip_special_tokens)
        self._shown_ids: list[int] = []
        self._held_ids: list[int] = []
        self._released = 0
        self._restart(self._context_of(prompt))

    def _context_of(self, prompt: Sequence[int]) -> Sequence[int]:
        """The end of the prompt, from where a character begins: a few ids that begin inside one say nothing."""
        for size in range(_CONTEXT, 2 * _CONTEXT):
            if not self._decode(prompt[-size:]).endswith(_REPLACEMENT):
                return prompt[-size:]
        return ()

    def push(self, token_id: int) -> str:
        """Take one id; return the text that is certain by now, often empty."""
        self._held_ids.append(token_id)
        try:
            chunk = self._stream.step(self._tokenizer, token_id)
        except Exception:  # the library raises no class of its own when a byte changes how earlier ones read
            return self.flush()
        if chunk is None:
            return self._release() if len(self._held_ids) % _RELEASE_EVERY == 0 else ""
        text = chunk[self._released :]
        self._shown_ids, self._held_ids, self._released = self._held_ids, [], 0
        return text

    def flush(self) -> str:
        """The text of all ids still held; the bytes of an unfinished character become U+FFFD."""
        if not self._held_ids:
            return ""
        text = self._held_text()[self._released :]
        self._restart(self._held_ids)
        return text

    def _restart(self, shown: Sequence[int]) -> None:
        """Begin anew behind `shown`, unless that is no text of its own: `DecodeStream` would then repeat it."""
        text = self._decode(shown)
        self._shown_ids = list(shown) if text and not text.endswith(_REPLACEMENT) else []
        self._held_ids = []
        self._released = 0
        self._stream = DecodeStream(ids=self._shown_ids, skip_special_tokens=self._skips)

    def _release(self) -> str:
        """What the held ids say already, but for the last replacement character: it may yet become another."""
        text = self._held_text().removesuffix(_REPLACEMENT)
        released = text[self._released :]
        self._released = max(self._released, len(text))
        return released

    def _held_text(self) -> str:
        shown = self._decode(self._shown_ids)
        together = self._decode(self._shown_ids + self._held_ids)
        return together[len(shown) :] if together.startswith(shown) else self._decode(self._held_ids)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skips))
