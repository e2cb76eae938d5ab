"""Text and conversations to token ids, by the base model's own tokenizer and chat template."""

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from server.api.token_bytes import TokenBytes
from server.api.tool_format import ToolDialect, format_of
from server.api.tool_prompt import PROBE_TOOL, speaks_of_tools, with_tools_written_out
from server.errors import BaseModelError, InvalidRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Below this many characters encoding takes a few milliseconds at most, less than a thread is worth.
_INLINE_CHARS = 8_192
_SHOWN_CHARS = 300


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

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The exact bytes of every token."""
        return TokenBytes(self.tokenizer)

    @cached_property
    def tool_dialect(self) -> ToolDialect:
        """How this base writes calls of tools."""
        template = self._templates.chat_template
        texts = template.values() if isinstance(template, dict) else [template or ""]
        return ToolDialect(format_of("\n".join(texts)), self.tokenizer)

    @cached_property
    def _template_shows_tools(self) -> bool:
        probe = [{"role": "user", "content": "probe"}]
        try:
            return self._write(probe, tools=[PROBE_TOOL]) != self._write(probe, tools=None)
        except InvalidRequest:
            return False

    async def encode_prompt(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a plain prompt, with the special tokens that the tokenizer adds by default."""
        return await self._encode(text, add_special_tokens=add_special_tokens)

    async def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
    ) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next.

        The template writes the special tokens itself, so none are added unless that is asked for. Tools and their
        calls are written into the messages where the template knows of none.

        Raises:
            InvalidRequest: the base has no chat template, or the template refuses these messages.
        """
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        write = partial(self._write_with_tools, messages, list(tools or ()), options)
        size = sum(len(message["content"]) for message in messages)
        text = write() if size <= _INLINE_CHARS else await asyncio.to_thread(write)
        return await self._encode(text, add_special_tokens=add_special_tokens)

    def _write_with_tools(
        self, messages: Sequence[Mapping[str, Any]], tools: list[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        if not (tools or speaks_of_tools(messages)):
            return self._write(messages, **options)
        if self._template_shows_tools:
            return self._write(messages, tools=tools or None, **options)
        try:
            return self._write(with_tools_written_out(messages, tools), **options)
        except InvalidRequest:
            # Gemma's templates, among others, refuse the role system.
            return self._write(with_tools_written_out(messages, tools, has_system=False), **options)

    def _write(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        if self._templates.chat_template is None:
            raise InvalidRequest(
                "the base model has no chat template: write the conversation out and send it to /v1/completions",
                param="messages",
            )
        conversation: Any = list(messages)
        try:
            text = self._templates.apply_chat_template(conversation, tokenize=False, **options)
        # A template is a program that runs over the client's values, and may fail at them in any way.
        except Exception as error:
            detail = str(error).partition("\n")[0][:_SHOWN_CHARS]
            raise InvalidRequest(f"the chat template refuses these messages: {detail}", param="messages") from error
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
