"""Calls of tools, read from the text of an answer as it grows."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Literal

from server.api.constraints.content import Delta, ToolCallPiece
from server.api.constraints.tool_format import ToolFormat
from server.engine.messages import FinishReason

_State = Literal["text", "arguments", "behind"]


class ToolCallReader:
    """Tells calls from content; see `ContentReader`.

    It reads what the grammar of `server.api.constraints.tool_grammar` writes, and takes whatever is not exactly that
    for content. White space before the first call, and between and behind calls, is dropped.
    """

    def __init__(self, tool_format: ToolFormat, names: Iterable[str], *, trigger_shown: bool = True) -> None:
        """`trigger_shown` False: the trigger is a special token that does not appear in the text."""
        self._format = tool_format
        self._heads = {tool_format.head(name): name for name in names}
        self._trigger = tool_format.trigger if trigger_shown else ""
        self._state: _State = "text"
        self._held = ""
        self._begun = False
        self._behind_call = False
        self._object = _ObjectEnd()
        self._calls = 0

    def push(self, text: str) -> Sequence[Delta]:
        """Take more text; return what is certain by now."""
        self._held += text
        deltas: list[Delta] = []
        while self._step(deltas):
            pass
        return deltas

    def finish(self) -> Sequence[Delta]:
        """The text has ended; return what was still held back, less a call that was cut before it named a function."""
        held, self._held = self._held, ""
        if self._state == "text" and self._trigger and self._trigger in held:
            held = held[: held.index(self._trigger)].rstrip()
        dropped = self._state == "behind" or (self._calls and not held.strip())
        return [held] if held and not dropped else []

    def finish_reason(self, reason: FinishReason) -> str:
        """`tool_calls` where the answer ended behind a call."""
        return "tool_calls" if reason == "stop" and self._calls and self._state != "arguments" else reason

    def _step(self, deltas: list[Delta]) -> bool:
        """Read on in what is held; False where that takes more text."""
        match self._state:
            case "text":
                return self._read_text(deltas)
            case "arguments":
                return self._read_arguments(deltas)
            case "behind":
                return self._read_behind(deltas)

    def _read_text(self, deltas: list[Delta]) -> bool:
        if self._behind_call:
            self._held = self._held.lstrip()
        if not self._held:
            return False
        self._behind_call = False
        if not self._trigger:
            return self._read_beginning(deltas)
        place = self._held.find(self._trigger)
        if place < 0:
            self._show(deltas, self._certain())
            return False
        opening = place + len(self._trigger)
        called = self._called(self._held[opening:], self._format.opens)
        if called is None:
            self._show(deltas, opening)
            return True
        if not called[0]:
            return False
        if before := self._held[:place].rstrip():
            deltas.append(before)
        self._held = self._held[opening:]
        self._begin_call(deltas, *called)
        return True

    def _read_beginning(self, deltas: list[Delta]) -> bool:
        """Without a trigger: a call stands at the beginning of the answer, or there is none."""
        called = None if self._begun else self._called(self._held, self._format.opens)
        if called is None:
            self._show(deltas, len(self._held))
            return False
        if called[0]:
            self._begin_call(deltas, *called)
        return bool(called[0])

    def _called(self, text: str, before: str) -> tuple[str, int] | None:
        """The function that `text` calls behind `before`, and where its arguments begin.

        The name is empty where it takes more text to tell; None where this is no call.
        """
        for head, name in self._heads.items():
            if text.startswith(before + head):
                return name, len(before) + len(head)
        return ("", 0) if any((before + head).startswith(text) for head in self._heads) else None

    def _begin_call(self, deltas: list[Delta], name: str, arguments: int) -> None:
        deltas.append(ToolCallPiece(self._calls, call_id=f"call_{secrets.token_hex(12)}", name=name))
        self._held = self._held[arguments:]
        self._calls += 1
        self._begun = True
        self._object = _ObjectEnd()
        self._state = "arguments"

    def _read_arguments(self, deltas: list[Delta]) -> bool:
        if not self._held:
            return False
        end = self._object.find(self._held)
        arguments = self._held if end is None else self._held[:end]
        deltas.append(ToolCallPiece(self._calls - 1, arguments))
        self._held = self._held[len(arguments) :]
        if end is not None:
            self._state = "behind"
        return end is not None

    def _read_behind(self, deltas: list[Delta]) -> bool:
        called = self._called(self._held, self._format.between)
        if called is not None:
            if called[0]:
                self._begin_call(deltas, *called)
            return bool(called[0])
        closes = self._format.closes
        if closes.startswith(self._held) and self._held != closes:
            return False
        self._held = self._held.removeprefix(closes)
        self._behind_call = True
        self._state = "text"
        return True

    def _certain(self) -> int:
        """How much of the held text is content, whatever follows: no white space or trigger may begin at its end."""
        partial = next(
            (size for size in range(len(self._trigger) - 1, 0, -1) if self._held.endswith(self._trigger[:size])), 0
        )
        return len(self._held[: len(self._held) - partial].rstrip())

    def _show(self, deltas: list[Delta], size: int) -> None:
        if size:
            deltas.append(self._held[:size])
            self._held = self._held[size:]
            self._begun = True


class _ObjectEnd:
    """Finds the end of a JSON object in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """The index behind the bracket that closes the object; None where it is not in this piece."""
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif character == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                self._escaped = character == "\\"
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return index + 1
        return None
