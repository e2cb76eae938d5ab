"""Text and conversations to token ids, by the tokenizer and chat template of the base or of an adapter."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from adapters_store.errors import ChatTemplateFailed
from server.api.constraints.tool_format import ToolDialect, format_of
from server.api.constraints.tool_prompt import PROBE_TOOL, speaks_of_tools, with_tools_written_out
from server.api.text.chat_template import BaseTemplate, ChatTemplate
from server.api.text.text_threads import TextThreads
from server.api.text.token_bytes import TokenBytes
from server.errors import BaseModelError, ContextLengthExceeded, InvalidRequest


def import_tokenizer_classes() -> None:
    """Import what `Tokenization.load` needs, which takes seconds, ahead of its first call."""
    importlib.import_module("transformers").PreTrainedTokenizerFast  # noqa: B018 -- loaded by being named


class Tokenization:
    """A tokenizer and a chat template: the base's, or what an adapter has in their place.

    Encoding goes to the `tokenizers` object itself: the wrapper of transformers sets truncation and padding on
    every call, which two threads may not do at once. `special_tokens` are texts by role (`bos_token`). No token is the
    text of more than `longest_token` characters.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        special_tokens: Mapping[str, str],
        threads: TextThreads,
        *,
        longest_token: int = sys.maxsize,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.special_tokens = special_tokens
        self.threads = threads
        self.longest_token = longest_token
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

        threads = TextThreads()
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
            template = BaseTemplate(tokenizer, threads)
            backend = tokenizer.backend_tokenizer
            return cls(backend, template, template.special_tokens, threads, longest_token=_longest_token(backend))
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

    def check_fits(self, text: str, most_tokens: int, param: str) -> None:
        """Refuse a text by its length alone, before the work of encoding it.

        Raises:
            ContextLengthExceeded: it has more characters than `most_tokens` tokens could be the text of.
        """
        most = most_tokens * self.longest_token
        if len(text) > most:
            raise ContextLengthExceeded(
                f"{param} has {len(text)} characters, more than any {most_tokens} tokens, which is what the context "
                "holds; shorten it",
                param=param,
            )

    async def encode_prompt(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a plain prompt, with the special tokens that the tokenizer adds by default."""
        (ids,) = await self.encode_prompts([text], add_special_tokens=add_special_tokens)
        return ids

    async def encode_prompts(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Token ids of several plain prompts."""
        return await self.threads.run_if_heavy(self._encode, texts, add_special_tokens)

    async def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        most_tokens: int | None = None,
    ) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next.

        The template writes the special tokens itself, so none are added unless that is asked for. Tools and their
        calls are written into the messages where the template knows of none.

        Raises:
            ContextLengthExceeded: they are too long a text for `most_tokens`, whatever its tokens are.
            InvalidRequest, ChatTemplateFailed: there is no chat template, or it refuses these messages.
        """
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        text = await self._write(messages, list(tools or ()), options)
        if most_tokens is not None:
            self.check_fits(text, most_tokens, "messages")
        return await self.encode_prompt(text, add_special_tokens=add_special_tokens)

    async def _write(
        self, messages: Sequence[Mapping[str, Any]], tools: list[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        if not (tools or speaks_of_tools(messages)):
            return await self.template.write(messages, **options)
        if await self._template_shows_tools():
            return await self.template.write(messages, tools=tools or None, **options)
        try:
            written = await self.threads.run_if_heavy(with_tools_written_out, messages, tools)
            return await self.template.write(written, **options)
        except (InvalidRequest, ChatTemplateFailed):
            # Gemma's templates, among others, refuse the role system.
            written = await self.threads.run_if_heavy(with_tools_written_out, messages, tools, has_system=False)
            return await self.template.write(written, **options)

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

    def _encode(self, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
        # The batch form alone gives up the interpreter's lock.
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]


def _longest_token(tokenizer: Tokenizer) -> int:
    """The characters of the longest token; no bound for a tokenizer that may make one token of any text."""
    if not TokenBytes(tokenizer).spells_any_text:
        return sys.maxsize
    return max(map(len, tokenizer.get_vocab()))
