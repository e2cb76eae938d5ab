"""The frame of OpenAI's answers and stream chunks, as bytes.

`server.api.protocol.answers` describes the same shapes; here a chunk is written from prepared parts where it has
text alone, since one is made for every token of every stream.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from server.api.formats.logprobs import TokenSpelling
from server.api.generation.pieces import Answer, Opening, Origin, TextToken
from server.api.generation.tally import same_origin, usage_object
from server.api.json_response import json_bytes

_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Details:
    """What a client wants to see beside the text; `continuous_usage` needs `include_usage`.

    `logprobs` and `prompt_logprobs` say how many of the likeliest tokens stand beside each token, None: no scores.
    """

    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    token_ids: bool = False
    tokens_as_ids: bool = False


class ChunkFrame:
    """One id, time and model, and the events of a stream around the choices.

    `text_start` and `text_end` are what stands before and after the text in a choice that has text alone.
    """

    id_prefix: ClassVar[str]
    answer_object: ClassVar[str]
    chunk_object: ClassVar[str]
    text_start: ClassVar[bytes]
    text_end: ClassVar[bytes]

    def __init__(self, model: str, details: Details) -> None:
        self._head: dict[str, Any] = {
            "id": f"{self.id_prefix}-{secrets.token_hex(16)}",
            "object": self.chunk_object,
            "created": int(time.time()),
            "model": model,
        }
        self._details = details
        self._plain = details.logprobs is None and not (details.token_ids or details.continuous_usage)
        self._spelling = TokenSpelling(as_ids=details.tokens_as_ids)
        self._openings: dict[int, Opening] = {}
        self._text_before: dict[int, bytes] = {}
        self._text_after = self.text_end + (b',"usage":null}\n\n' if details.include_usage else b"}\n\n")

    def end(self, usage: dict[str, Any], origin: Origin) -> bytes:
        """The usage, where the client asked for it, and the end of the stream."""
        if not self._details.include_usage:
            return _DONE
        return _event_of({**self._head, "choices": [], "usage": usage, "switchyard": origin}) + _DONE

    def failure(self, error: dict[str, Any]) -> bytes:
        """An error on the way."""
        return _event_of(error)

    def _open(self, opening: Opening) -> None:
        self._openings[opening.index] = opening
        choice = b'"choices":[{"index":%d,' % opening.index
        self._text_before[opening.index] = b"data: " + json_bytes(self._head)[:-1] + b"," + choice + self.text_start

    def _event(self, choice: dict[str, Any], generated: int, **beside: Any) -> bytes:
        """A chunk with one choice, of which `generated` tokens have come; `beside` stands beside its choices."""
        chunk = {**self._head, "choices": [choice], **beside}
        if self._details.continuous_usage:
            opening = self._openings[choice["index"]]
            chunk["usage"] = usage_object(len(opening.prompt_ids), generated, opening.cached_tokens)
        elif self._details.include_usage:
            chunk["usage"] = None
        return _event_of(chunk)

    def _whole(self, answer: Answer, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A whole answer around its choices; one that ran on something else than the first says so itself."""
        for choice, result in zip(choices, answer.choices, strict=True):
            if not same_origin(result.opening.origin, answer.origin):
                choice["switchyard"] = result.opening.origin
        return {
            **self._head,
            "object": self.answer_object,
            "choices": choices,
            "usage": answer.usage,
            "switchyard": answer.origin,
        }


def token_ids(tokens: Sequence[TextToken]) -> list[int]:
    """The ids of tokens."""
    return [token.token_id for token in tokens]


def _event_of(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json_bytes(chunk) + b"\n\n"
