"""The text of one choice: tokens in, pieces of the answer out."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.api.constraints.content import ContentReader
from server.api.generation.pieces import Piece, TextToken
from server.api.text.generated_text import GeneratedText
from server.api.text.token_trace import TokenTrace, traced_prompt
from server.api.text.tokenization import Tokenization
from server.engine.messages import FinishReason, TokenScore


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids, and as the client wrote it where that was text."""

    ids: list[int]
    text: str | None = None


@dataclass(frozen=True)
class TextOptions:
    """What the client wants to see of its choices.

    `stops` end the text, but not within its first `min_tokens` tokens. `echo` puts the prompt before the text.
    `shows_tokens` asks for the tokens beside the text, `shows_prompt` for those of the prompt at the end.
    """

    stops: tuple[str, ...] = ()
    include_stop: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    echo: bool = False
    shows_tokens: bool = False
    shows_prompt: bool = False


class ChoiceText:
    """Turns the tokens of choice `index` into pieces, and counts them.

    `prompt` has the prompt's tokens with their scores once `begin` was called, where they were asked for. `stop` is
    the stop string that ended the text, once there was one: all further tokens are in vain.
    """

    def __init__(
        self,
        index: int,
        prompt: EncodedPrompt,
        options: TextOptions,
        tokenization: Tokenization,
        reader: ContentReader | None = None,
    ) -> None:
        self._index = index
        self._encoded = prompt
        self._options = options
        self._tokenizer = tokenization.tokenizer
        self._reader = reader
        self._generated = GeneratedText(
            tokenization.tokenizer,
            prompt.ids,
            options.stops,
            include_stop=options.include_stop,
            min_tokens=options.min_tokens,
            skip_special_tokens=options.skip_special_tokens,
        )
        self._vocabulary = tokenization.token_bytes if options.shows_tokens or options.shows_prompt else None
        self._trace = self._new_trace(0)
        self._shown = 0
        self.prompt: Sequence[TextToken] = ()
        self.stop: str | None = None

    @property
    def token_count(self) -> int:
        """Tokens up to the end of the text, the one that completed a stop string included."""
        return self._generated.token_count

    def _new_trace(self, start: int) -> TokenTrace | None:
        if self._vocabulary is None or not self._options.shows_tokens:
            return None
        return TokenTrace(self._vocabulary, start=start, skip_special_tokens=self._options.skip_special_tokens)

    def begin(self, scores: Sequence[TokenScore | None], traced: Sequence[TextToken] | None = None) -> Piece | None:
        """Take the scores of the prompt's tokens, where there are any; return the piece that echoes the prompt.

        `traced` are the prompt's tokens where another choice of the same prompt has them already.
        """
        if not (self._options.echo or self._options.shows_prompt):
            return None
        text, skips = self._prompt_text()
        if self._vocabulary is not None:
            self.prompt = (
                traced_prompt(self._vocabulary, self._encoded.ids, text, scores, skip_special_tokens=skips)
                if traced is None
                else traced
            )
        if not self._options.echo:
            return None
        self._trace = self._new_trace(len(text))
        self._shown = len(text)
        return Piece(self._index, text, self.prompt if self._options.shows_tokens else ())

    def _prompt_text(self) -> tuple[str, bool]:
        """The prompt as text, and whether its special tokens take no room there."""
        ids, text = self._encoded.ids, self._encoded.text
        skips = self._options.skip_special_tokens
        if text is None:
            return str(self._tokenizer.decode(ids, skip_special_tokens=skips)), skips
        # A client may have written special tokens itself; those that the tokenizer added are not in its text.
        return text, str(self._tokenizer.decode(ids, skip_special_tokens=False)) != text

    def push(self, token_ids: Sequence[int], scores: Sequence[TokenScore], *, last: bool = False) -> Piece | None:
        """Take new tokens, the `last` ones among them; return what they add, None where nothing can be shown yet.

        After the piece in which `stop` is set, or that was the last, no more comes.
        """
        generated = self._generated
        before = generated.token_count
        text = generated.push(token_ids)
        if last or generated.stop is not None:
            last = True
            text += generated.finish()
            self.stop = generated.stop
        count = generated.token_count
        if self._trace is None and self._reader is None:
            return Piece(self._index, text, (), None, count) if text else None
        tokens = self._traced(token_ids[: count - before], scores, text, last) if self._trace is not None else ()
        if self._reader is None:
            return Piece(self._index, text, tokens, None, count) if text or tokens else None
        deltas = [*(self._reader.push(text) if text else ()), *(self._reader.finish() if last else ())]
        return Piece(self._index, text, tokens, deltas, count) if deltas or tokens else None

    def _traced(
        self, token_ids: Sequence[int], scores: Sequence[TokenScore], text: str, last: bool
    ) -> Sequence[TextToken]:
        """The tokens that may be seen with `text`, the next part of the whole text."""
        assert self._trace is not None
        self._trace.push(token_ids, scores)
        self._shown += len(text)
        # Behind a stop string that was cut off, tokens are as unseen as their text.
        cut = self.stop is not None and not self._options.include_stop
        return self._trace.rest() if last and not cut else self._trace.shown(self._shown)

    def finish_reason(self, reason: FinishReason) -> str:
        """The finish reason as the client is told it."""
        return reason if self._reader is None else self._reader.finish_reason(reason)
