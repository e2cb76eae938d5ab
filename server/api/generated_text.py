"""The text of one generation as it grows: tokens in, text out that may be shown."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from server.api.detokenizer import Detokenizer
from server.api.stop_strings import StopScanner


class GeneratedText:
    """Detokenises, and cuts the text before the first stop string.

    `token_count` is the number of tokens up to the end of the text, the one that completed a stop string
    included; `stopped` says that a stop string ended it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._scanner = StopScanner(stops)
        self.token_count = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met: all further tokens are in vain."""
        return self._scanner.stopped

    def push(self, token_ids: Sequence[int]) -> str:
        """Take new tokens; return the text that may be shown by now, often empty."""
        shown = ""
        for token_id in token_ids:
            if self._scanner.stopped:
                break
            self.token_count += 1
            text = self._detokenizer.push(token_id)
            if text:
                shown += self._scanner.push(text)
        return shown

    def finish(self) -> str:
        """The text that was still held back when the last token had come."""
        if self._scanner.stopped:
            return ""
        shown = self._scanner.push(self._detokenizer.flush())
        return shown + self._scanner.flush()
