"""How `/v1/completions` writes its answers."""

from collections.abc import Sequence
from typing import Any

from server.api.formats.chunks import ChunkFrame, token_ids
from server.api.formats.logprobs import completion_logprobs, prompt_logprobs
from server.api.generation.pieces import Answer, ChoiceResult, Ending, Opening, Piece, TextToken
from server.api.json_response import json_bytes


class CompletionFormat(ChunkFrame):
    """An `AnswerFormat`."""

    id_prefix = "cmpl"
    answer_object = "text_completion"
    chunk_object = "text_completion"
    text_start = b'"text":'
    text_end = b',"logprobs":null,"finish_reason":null}]'

    def whole(self, answer: Answer) -> dict[str, Any]:
        return self._whole(answer, [self._result(result) for result in answer.choices])

    def first(self, opening: Opening, piece: Piece) -> bytes:
        self._open(opening)
        choice = self._choice(piece.index, piece.text, piece.tokens)
        if self._details.token_ids:
            choice["prompt_token_ids"] = opening.prompt_ids
        return self._event(choice, piece.generated, switchyard=opening.origin)

    def more(self, piece: Piece) -> bytes:
        if self._plain:
            return self._text_before[piece.index] + json_bytes(piece.text) + self._text_after
        return self._event(self._choice(piece.index, piece.text, piece.tokens), piece.generated)

    def last(self, ending: Ending) -> bytes:
        return self._event(self._choice(ending.index, "", (), ending.finish_reason), ending.generated)

    def _choice(
        self, index: int, text: str, tokens: Sequence[TextToken], finish_reason: str | None = None
    ) -> dict[str, Any]:
        count = self._details.logprobs if tokens or finish_reason is None else None
        choice: dict[str, Any] = {
            "index": index,
            "text": text,
            "logprobs": completion_logprobs(tokens, count, self._spelling) if count is not None else None,
            "finish_reason": finish_reason,
        }
        if self._details.token_ids:
            choice["token_ids"] = token_ids(tokens)
        return choice

    def _result(self, result: ChoiceResult) -> dict[str, Any]:
        choice = self._choice(result.opening.index, result.text, result.tokens)
        choice["finish_reason"] = result.ending.finish_reason
        if self._details.token_ids:
            choice["prompt_token_ids"] = result.opening.prompt_ids
        if self._details.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(result.ending.prompt, self._details.prompt_logprobs)
        return choice
