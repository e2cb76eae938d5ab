"""The text of one generation as it grows: tokens in, text out that may be shown."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from server.api.text.detokenizer import Detokenizer
from server.api.text.stop_strings import StopScanner


class GeneratedText:
    """Detokenises, and cuts the text before the first stop string, or behind it with `include_stop`.

    Text of the first `min_tokens` tokens ends nothing. `token_count` is the number of tokens up to the end of the
    text, the one that completed a stop string included; `stop` is the stop string that ended it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        stops: Sequence[str],
        *,
        include_stop: bool = False,
        min_tokens: int = 0,
        skip_special_tokens: bool = True,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt, skip_special_tokens=skip_special_tokens)
        self._scanner = StopScanner(stops, include=include_stop)
        self._min_tokens = min_tokens
        self.token_count = 0

    @property
    def stop(self) -> str | None:
        """The stop string that was met: all further tokens are in vain."""
        return self._scanner.found

    def push(self, token_ids: Sequence[int]) -> str:
        """Take new tokens; return the text that may be shown by now, often empty."""
        shown = ""
        for token_id in token_ids:
            if self._scanner.found is not None:
                break
            self.token_count += 1
            text = self._detokenizer.push(token_id)
            if text:
                shown += text if self.token_count <= self._min_tokens else self._scanner.push(text)
        return shown

    def finish(self) -> str:
        """The text that was still held back when the last token had come."""
        if self._scanner.found is not None:
            return ""
        shown = self._scanner.push(self._detokenizer.flush())
        return shown + self._scanner.flush()
