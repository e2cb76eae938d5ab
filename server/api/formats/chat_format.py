"""How `/v1/chat/completions` writes its answers."""

from collections.abc import Sequence
from typing import Any

from server.api.constraints.content import Delta, ToolCallPiece
from server.api.formats.chunks import ChunkFrame, token_ids
from server.api.formats.logprobs import chat_logprobs, prompt_logprobs
from server.api.generation.pieces import Answer, ChoiceResult, Ending, Opening, Piece, TextToken
from server.api.json_response import json_bytes


class ChatFormat(ChunkFrame):
    """An `AnswerFormat`."""

    id_prefix = "chatcmpl"
    answer_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    text_start = b'"delta":{"content":'
    text_end = b'},"logprobs":null,"finish_reason":null}]'

    def whole(self, answer: Answer) -> dict[str, Any]:
        body = self._whole(answer, [self._result(result) for result in answer.choices])
        # One conversation has one prompt, whatever the number of choices.
        first = answer.choices[0]
        if self._details.token_ids:
            body["prompt_token_ids"] = first.opening.prompt_ids
        if self._details.prompt_logprobs is not None:
            body["prompt_logprobs"] = prompt_logprobs(first.ending.prompt, self._details.prompt_logprobs)
        return body

    def first(self, opening: Opening, piece: Piece) -> bytes:
        self._open(opening)
        beside: dict[str, Any] = {"switchyard": opening.origin}
        if self._details.token_ids:
            beside["prompt_token_ids"] = opening.prompt_ids
        role = self._event(self._choice(piece.index, {"role": "assistant", "content": ""}, ()), 0, **beside)
        return role + self.more(piece) if piece.text or piece.deltas or piece.tokens else role

    def more(self, piece: Piece) -> bytes:
        if self._plain and piece.deltas is None:
            return self._text_before[piece.index] + json_bytes(piece.text) + self._text_after
        events = []
        tokens = piece.tokens
        for delta in _deltas(piece):
            events.append(self._event(self._choice(piece.index, delta, tokens), piece.generated))
            tokens = ()
        return b"".join(events)

    def last(self, ending: Ending) -> bytes:
        return self._event(self._choice(ending.index, {}, (), ending.finish_reason), ending.generated)

    def _choice(
        self, index: int, delta: dict[str, Any], tokens: Sequence[TextToken], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": index,
            "delta": delta,
            "logprobs": chat_logprobs(tokens, self._spelling)
            if self._details.logprobs is not None and tokens
            else None,
            "finish_reason": finish_reason,
        }
        if self._details.token_ids:
            choice["token_ids"] = token_ids(tokens)
        return choice

    def _result(self, result: ChoiceResult) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": result.opening.index,
            "message": _message(result),
            "logprobs": chat_logprobs(result.tokens, self._spelling) if self._details.logprobs is not None else None,
            "finish_reason": result.ending.finish_reason,
        }
        if self._details.token_ids:
            choice["token_ids"] = token_ids(result.tokens)
        return choice


def _deltas(piece: Piece) -> list[dict[str, Any]]:
    """What each event of a piece adds to the message; at least one, which may be empty and carry tokens alone."""
    deltas: Sequence[Delta] = piece.deltas if piece.deltas is not None else [piece.text]
    return [{"tool_calls": [_call(d)]} if isinstance(d, ToolCallPiece) else {"content": d} for d in deltas] or [{}]


def _call(piece: ToolCallPiece) -> dict[str, Any]:
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {
        "index": piece.index,
        "id": piece.call_id,
        "type": "function",
        "function": {"name": piece.name, "arguments": piece.arguments},
    }


def _message(result: ChoiceResult) -> dict[str, Any]:
    """The whole message; its content is null where it is calls of tools and nothing else."""
    message: dict[str, Any] = {"role": "assistant", "content": result.text, "refusal": None}
    if result.deltas is None:
        return message
    content, calls = "", dict[int, dict[str, Any]]()
    for delta in result.deltas:
        if isinstance(delta, str):
            content += delta
        elif delta.index in calls:
            calls[delta.index]["function"]["arguments"] += delta.arguments
        else:
            calls[delta.index] = {name: value for name, value in _call(delta).items() if name != "index"}
    message["content"] = content if content or not calls else None
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message
