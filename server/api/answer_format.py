"""Answers and stream chunks in OpenAI's shapes, as bytes.

`server.api.protocol.answers` describes the same shapes; here they are written from prepared parts, since a
chunk is built for every token of every stream.
"""

import secrets
import time
from typing import Any, ClassVar, Protocol

from server.api.json_response import json_bytes

DONE = b"data: [DONE]\n\n"


class AnswerFormat(Protocol):
    """How one endpoint writes its answers. `origin` is the `switchyard` object."""

    def whole(self, text: str, finish_reason: str, usage: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
        """The answer in one piece."""

    def first(self, text: str, origin: dict[str, Any]) -> bytes:
        """The events that begin a stream, with the first text."""

    def more(self, text: str) -> bytes:
        """The event of further text."""

    def last(self, finish_reason: str) -> bytes:
        """The event that ends the text."""

    def usage(self, usage: dict[str, Any], origin: dict[str, Any]) -> bytes:
        """The event after the last, where the client asked for it."""


class _Chunks:
    """What the two formats share: one id, time and model, and the frame of an event."""

    id_prefix: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": f"{self.id_prefix}-{secrets.token_hex(16)}",
            "object": self.chunk_object,
            "created": int(time.time()),
            "model": model,
        }
        self._before = b"data: " + json_bytes(self._head)[:-1] + b',"choices":'
        self._after = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def _event(self, choices: list[dict[str, Any]], origin: dict[str, Any] | None = None) -> bytes:
        extra = b',"switchyard":' + json_bytes(origin) if origin is not None else b""
        return self._before + json_bytes(choices) + extra + self._after

    def usage(self, usage: dict[str, Any], origin: dict[str, Any]) -> bytes:
        return b"data: " + json_bytes({**self._head, "choices": [], "usage": usage, "switchyard": origin}) + b"\n\n"


class CompletionFormat(_Chunks):
    """`/v1/completions`."""

    id_prefix = "cmpl"
    chunk_object = "text_completion"

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__(model, include_usage=include_usage)
        self._text_before = self._before + b'[{"index":0,"text":'
        self._text_after = b',"logprobs":null,"finish_reason":null}]' + self._after

    def whole(self, text: str, finish_reason: str, usage: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "choices": [_completion(text, finish_reason)], "usage": usage, "switchyard": origin}

    def first(self, text: str, origin: dict[str, Any]) -> bytes:
        return self._event([_completion(text, None)], origin)

    def more(self, text: str) -> bytes:
        return self._text_before + json_bytes(text) + self._text_after

    def last(self, finish_reason: str) -> bytes:
        return self._event([_completion("", finish_reason)])


class ChatFormat(_Chunks):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    chunk_object = "chat.completion.chunk"

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__(model, include_usage=include_usage)
        self._text_before = self._before + b'[{"index":0,"delta":{"content":'
        self._text_after = b'},"logprobs":null,"finish_reason":null}]' + self._after

    def whole(self, text: str, finish_reason: str, usage: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage,
            "switchyard": origin,
        }

    def first(self, text: str, origin: dict[str, Any]) -> bytes:
        role = self._event([_delta({"role": "assistant", "content": ""}, None)], origin)
        return role + self.more(text) if text else role

    def more(self, text: str) -> bytes:
        return self._text_before + json_bytes(text) + self._text_after

    def last(self, finish_reason: str) -> bytes:
        return self._event([_delta({}, finish_reason)])


def _completion(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _delta(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
