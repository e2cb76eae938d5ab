"""What the text of a choice becomes in an answer: content, and calls of tools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.engine.messages import FinishReason


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """The next part of one tool call; `index` counts the calls of the choice.

    `call_id` and `name` stand in the first piece of a call alone. `arguments` of all pieces, put together, are
    the call's arguments as JSON.
    """

    index: int
    arguments: str = ""
    call_id: str | None = None
    name: str | None = None


Delta = str | ToolCallPiece
"""Content is a plain string."""


class ContentReader(Protocol):
    """Reads the text of one choice, in pieces of any size, and says what each piece means.

    A reader is asked only for text that may be shown: no part of a stop string, and no half of a character.
    """

    def push(self, text: str) -> Sequence[Delta]:
        """Take more text, never empty; return what is certain by now."""

    def finish(self) -> Sequence[Delta]:
        """The text has ended; return what was still held back."""

    def finish_reason(self, reason: FinishReason) -> str:
        """The finish reason that the client is told, `tool_calls` in the place of `stop` for example."""
