"""Text and conversations to token ids, by the tokenizer and chat template of the base or of an adapter."""

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from adapters_store.errors import ChatTemplateFailed
from server.api.constraints.tool_format import ToolDialect, format_of
from server.api.constraints.tool_prompt import PROBE_TOOL, speaks_of_tools, with_tools_written_out
from server.api.text.chat_template import BaseTemplate, ChatTemplate
from server.api.text.token_bytes import TokenBytes
from server.errors import BaseModelError, InvalidRequest

# Below this many characters encoding takes a few milliseconds at most, less than a thread is worth.
_INLINE_CHARS = 8_192


def import_tokenizer_classes() -> None:
    """Import what `Tokenization.load` needs, which takes seconds, ahead of its first call."""
    importlib.import_module("transformers").PreTrainedTokenizerFast  # noqa: B018 -- loaded by being named


class Tokenization:
    """A tokenizer and a chat template: the base's, or what an adapter has in their place.

    Encoding goes to the `tokenizers` object itself: the wrapper of transformers sets truncation and padding on
    every call, which two threads may not do at once. `special_tokens` are texts by role (`bos_token`).
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, special_tokens: Mapping[str, str]) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.special_tokens = special_tokens
        self._shows_tools: bool | None = None
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
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
            template = BaseTemplate(tokenizer)
            return cls(tokenizer.backend_tokenizer, template, template.special_tokens)
        except Exception as error:
            raise BaseModelError(f"the base model's tokenizer cannot be read: {error}") from error

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The exact bytes of every token."""
        return TokenBytes(self.tokenizer)

    @cached_property
    def tool_dialect(self) -> ToolDialect:
        """How calls of tools are written."""
        return ToolDialect(format_of(self.template.source), self.tokenizer)

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
            InvalidRequest, ChatTemplateFailed: there is no chat template, or it refuses these messages.
        """
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        text = await self._write(messages, list(tools or ()), options)
        return await self._encode(text, add_special_tokens=add_special_tokens)

    async def _write(
        self, messages: Sequence[Mapping[str, Any]], tools: list[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        if not (tools or speaks_of_tools(messages)):
            return await self.template.write(messages, **options)
        if await self._template_shows_tools():
            return await self.template.write(messages, tools=tools or None, **options)
        try:
            return await self.template.write(with_tools_written_out(messages, tools), **options)
        except (InvalidRequest, ChatTemplateFailed):
            # Gemma's templates, among others, refuse the role system.
            return await self.template.write(with_tools_written_out(messages, tools, has_system=False), **options)

    async def _template_shows_tools(self) -> bool:
        if self._shows_tools is None:
            probe = [{"role": "user", "content": "probe"}]
            try:
                shown = await self.template.write(probe, tools=[PROBE_TOOL])
                self._shows_tools = shown != await self.template.write(probe)
            except (InvalidRequest, ChatTemplateFailed):
                # Not kept: the template may have been cut by a busy machine, and tell next time.
                return False
        return self._shows_tools

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
