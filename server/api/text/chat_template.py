"""Conversations to text: by the base's own template in this process, by an adapter's in one that bounds it."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from adapters_store.chat_template import template_variables
from adapters_store.errors import ChatTemplateFailed
from adapters_store.template_process import TemplateProcess
from server.api.text.text_threads import TextThreads
from server.errors import InvalidRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PROCESSES = 4
_SHOWN_CHARS = 300


class ChatTemplate(Protocol):
    """Writes conversations out, special tokens included. `source` is its own text, empty where there is none."""

    @property
    def source(self) -> str: ...

    async def write(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The text of a conversation.

        `variables` are `tools`, `add_generation_prompt`, and special tokens by role. `continue_final_message` is no
        variable: with it the text ends where the last message's content does.

        Raises:
            InvalidRequest, ChatTemplateFailed: there is no template, or it refuses these messages; `param` is
                `messages`.
        """


class BaseTemplate:
    """The base's template, which the operator trusts as the base itself."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", threads: TextThreads) -> None:
        self._tokenizer = tokenizer
        self._threads = threads

    @property
    def special_tokens(self) -> dict[str, str]:
        """The texts of the special tokens, by role."""
        tokens: dict[str, Any] = self._tokenizer.special_tokens_map
        return {role: str(token) for role, token in tokens.items() if not isinstance(token, list)}

    @property
    def source(self) -> str:
        template = self._tokenizer.chat_template
        return "\n".join(template.values() if isinstance(template, dict) else [template or ""])

    async def write(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        return await self._threads.run_if_heavy(self._write, messages, variables)

    def _write(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        if self._tokenizer.chat_template is None:
            raise InvalidRequest(
                "the base model has no chat template: write the conversation out and send it to /v1/completions",
                param="messages",
            )
        known = {"add_generation_prompt": True, **variables}
        conversation = [dict(message) for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(conversation, tokenize=False, **known)
        # A template is a program that runs over the client's values, and may fail at them in any way.
        except Exception as error:
            detail = str(error).partition("\n")[0][:_SHOWN_CHARS]
            raise InvalidRequest(f"the chat template refuses these messages: {detail}", param="messages") from error
        return str(text)


class TemplateProcesses:
    """The processes that write conversations by templates of strangers, each started when first needed."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_PROCESSES, thread_name_prefix="chat-template")
        self._own = threading.local()
        self._started: list[TemplateProcess] = []

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """The text that a template writes.

        Raises:
            ChatTemplateFailed: it does not.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._render, template, variables)

    def close(self) -> None:
        """End the processes; what they are at is cut."""
        for process in self._started:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._started:
            process.close()

    def _render(self, template: str, variables: Mapping[str, Any]) -> str:
        process: TemplateProcess | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = TemplateProcess()
            self._started.append(process)
        return process.render(template, variables)


class AdapterTemplate:
    """An adapter's own template. It writes one conversation at a time, so that a slow one is in its own way alone."""

    def __init__(self, processes: TemplateProcesses, template: str, special_tokens: Mapping[str, str]) -> None:
        self._processes = processes
        self._template = template
        self._special_tokens = special_tokens
        self._turn = asyncio.Lock()

    @property
    def source(self) -> str:
        return self._template

    async def write(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        continued = variables.pop("continue_final_message", False)
        known = template_variables(messages, self._special_tokens) | variables
        try:
            text = await self._render(known)
        except ChatTemplateFailed as error:
            error.param = "messages"
            raise
        return _until_end_of(messages[-1]["content"], text) if continued else text

    async def _render(self, variables: Mapping[str, Any]) -> str:
        await self._turn.acquire()
        rendering = asyncio.ensure_future(self._processes.render(self._template, variables))
        # The turn ends with the rendering, which goes on where the one who waits for it is gone.
        rendering.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(rendering)


def _until_end_of(content: str, text: str) -> str:
    """A conversation's text up to the end of its last message, whose content a template may have stripped."""
    begin = text.rfind(content.strip())
    if begin < 0:
        raise InvalidRequest(
            "continue_final_message: the chat template does not write the last message as it is, so it cannot be "
            "continued; leave the field out",
            param="continue_final_message",
        )
    whole = content.lstrip()
    return text[: begin + len(whole if text.startswith(whole, begin) else content.strip())]


class BaseTemplateWithTokens:
    """The base's template, with special tokens that an adapter has otherwise."""

    def __init__(self, template: ChatTemplate, special_tokens: Mapping[str, str]) -> None:
        self._template = template
        self._special_tokens = special_tokens

    @property
    def source(self) -> str:
        return self._template.source

    async def write(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        return await self._template.write(messages, **{**self._special_tokens, **variables})
