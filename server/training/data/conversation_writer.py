"""Conversations as the server writes them when it answers: training on another text would teach another model."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from transformers import PreTrainedTokenizerBase

from server.api.constraints.tool_prompt import PROBE_TOOL, speaks_of_tools, with_tools_written_out
from server.errors import InvalidTrainingData
from server.training.example import Message

_SHOWN_CHARS: Final = 200
_GENERATION_TAG: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE: Final = ({"role": "user", "content": "probe"},)
Tools = Sequence[Mapping[str, Any]]
_Written = TypeVar("_Written")


class ConversationWriter:
    """Writes conversations by the chat template of a tokenizer; `name` is what errors call the template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.name = f"the chat template of {Path(str(tokenizer.name_or_path)).name or 'the base'}"

    def written(self, messages: Sequence[Message], tools: Tools = (), *, prompt: bool = False) -> str:
        """The text of a conversation; with `prompt`, up to where the assistant speaks next.

        Raises:
            InvalidTrainingData: there is no template, or it refuses these messages.
        """
        return self._by_way_of(messages, tools, lambda turns, shown: self._text(turns, shown, prompt=prompt))

    def marked(self, messages: Sequence[Message], tools: Tools = ()) -> tuple[list[int], list[int]] | None:
        """Token ids and the assistant's mask by the template's own `{% generation %}` tags; None where it has none.

        Raises:
            InvalidTrainingData: as `written`.
        """
        if not self._has_tags:
            return None
        return self._by_way_of(messages, tools, self._marks)

    @property
    def _has_tags(self) -> bool:
        template = self._tokenizer.chat_template
        texts = template.values() if isinstance(template, dict) else [template or ""]
        return any(_GENERATION_TAG.search(str(text)) for text in texts)

    def _by_way_of(
        self, messages: Sequence[Message], tools: Tools, write: Callable[[Sequence[Mapping[str, Any]], Tools], _Written]
    ) -> _Written:
        """As `server.api.text.tokenization` does: a template that knows of no tools gets them in its messages."""
        turns = [template_input(message) for message in messages]
        if not (tools or speaks_of_tools(turns)):
            return write(turns, ())
        if self._shows_tools:
            return write(turns, tools)
        try:
            return write(with_tools_written_out(turns, tools), ())
        except InvalidTrainingData:
            return write(with_tools_written_out(turns, tools, has_system=False), ())

    @cached_property
    def _shows_tools(self) -> bool:
        try:
            return self._text(_PROBE, [PROBE_TOOL]) != self._text(_PROBE, ())
        except InvalidTrainingData:
            return False

    def _text(self, turns: Sequence[Mapping[str, Any]], tools: Tools, *, prompt: bool = False) -> str:
        return str(self._applied(turns, tools, tokenize=False, add_generation_prompt=prompt))

    def _marks(self, turns: Sequence[Mapping[str, Any]], tools: Tools) -> tuple[list[int], list[int]]:
        options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
        marked = self._applied(turns, tools, **options)
        return list(marked["input_ids"]), list(marked["assistant_masks"])

    def _applied(self, turns: Sequence[Mapping[str, Any]], tools: Tools, **options: Any) -> Any:
        if self._tokenizer.chat_template is None:
            raise InvalidTrainingData(
                "the base model has no chat template: train on lines of the form prompt and completion"
            )
        conversation = [dict(turn) for turn in turns]
        shown = [dict(tool) for tool in tools] or None
        try:
            return self._tokenizer.apply_chat_template(conversation, tools=shown, **options)  # type: ignore[arg-type]
        # A template is a program that runs over the file's values, and may fail at them in any way.
        except Exception as error:
            detail = str(error).partition("\n")[0][:_SHOWN_CHARS]
            raise InvalidTrainingData(f"{self.name} refuses these messages: {detail}") from error


def template_input(message: Message) -> dict[str, Any]:
    """A message as chat templates, and the server, expect it."""
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        written["name"] = message.name
    if message.tool_calls:
        written["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    return written
