"""Text and conversations to token ids, by the base model's own tokenizer and chat template."""

import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from tokenizers import Tokenizer

from server.errors import BaseModelError, InvalidRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Below this many characters encoding takes a few milliseconds at most, less than a thread is worth.
_INLINE_CHARS = 8_192


def import_tokenizer_classes() -> None:
    """Import what `Tokenization.load` needs, which takes seconds, ahead of its first call."""
    importlib.import_module("transformers").PreTrainedTokenizerFast  # noqa: B018 -- loaded by being named


class Tokenization:
    """The tokenizer of one base model.

    Encoding goes to the `tokenizers` object itself: the wrapper of transformers sets truncation and padding on
    every call, which two threads may not do at once.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self._templates = tokenizer
        self.tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    @classmethod
    def load(cls, directory: Path) -> "Tokenization":
        """Read tokenizer and chat template from a model's directory; takes seconds, mostly of importing.

        Raises:
            BaseModelError: the directory holds no tokenizer that can be read.
        """
        # Not AutoTokenizer: importing that imports torch.
        from transformers import PreTrainedTokenizerFast

        try:
            return cls(PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True))
        except Exception as error:
            raise BaseModelError(f"the base model's tokenizer cannot be read: {error}") from error

    async def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a plain prompt, with the special tokens that the tokenizer adds by default."""
        return await self._encode(text, add_special_tokens=True)

    async def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next.

        The template writes the special tokens itself, so none are added.

        Raises:
            InvalidRequest: the base has no chat template, or the template refuses these messages.
        """
        size = sum(len(message["content"]) for message in messages)
        text = self._write(messages) if size <= _INLINE_CHARS else await asyncio.to_thread(self._write, messages)
        return await self._encode(text, add_special_tokens=False)

    def _write(self, messages: Sequence[dict[str, str]]) -> str:
        if self._templates.chat_template is None:
            raise InvalidRequest(
                "the base model has no chat template: write the conversation out and send it to /v1/completions",
                param="messages",
            )
        try:
            text = self._templates.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise InvalidRequest(f"the chat template refuses these messages: {error}", param="messages") from error
        return str(text)

    async def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if len(text) <= _INLINE_CHARS:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
            return ids
        return await asyncio.to_thread(self._encode_beside, text, add_special_tokens)

    def _encode_beside(self, text: str, add_special_tokens: bool) -> list[int]:
        """Encode without the interpreter's lock, which only the batch form of the call gives up."""
        (encoding,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids
