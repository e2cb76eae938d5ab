"""How LoRAX and TGI write an answer to `/generate`, whole or as a stream of tokens."""

import codecs
from collections.abc import Sequence
from typing import Any

from server.api.errors import lorax_error_object
from server.api.formats.logprobs import finite_logprob
from server.api.generation.pieces import Answer, Ending, Opening, Origin, Piece, TextToken
from server.api.json_response import json_bytes
from server.api.protocol.generate_request import GenerateRequest


class GenerateFormat:
    """An `AnswerFormat` for one choice. `end_token_id` is what the last event of a stream shows as its token.

    Every event of a stream has a token; the text's end is told by one more, which is special and empty, so that no
    token waits for the next one. `in_list` puts a whole answer into a list, as LoRAX does at `/`.
    """

    def __init__(self, asked: GenerateRequest, end_token_id: int, *, in_list: bool = False) -> None:
        self._asked = asked
        self._end_token_id = end_token_id
        self._in_list = in_list
        self._spelling = _Spelling()
        self._text: list[str] = []
        self._opening: Opening | None = None

    def whole(self, answer: Answer) -> Any:
        (result,) = answer.choices
        written: dict[str, Any] = {"generated_text": self._full(result.text)}
        if self._asked.details:
            written["details"] = {
                **self._details(result.opening, result.ending),
                "prefill": _prefill(result.ending.prompt),
                "tokens": [self._token(token) for token in result.tokens],
            }
        written["switchyard"] = answer.origin
        return [written] if self._in_list else written

    def first(self, opening: Opening, piece: Piece) -> bytes:
        self._opening = opening
        return self.more(piece)

    def more(self, piece: Piece) -> bytes:
        self._text.append(piece.text)
        return b"".join(
            _event({"token": self._token(token), "generated_text": None, "details": None}) for token in piece.tokens
        )

    def last(self, ending: Ending) -> bytes:
        assert self._opening is not None
        text = self._spelling.rest()
        return _event(
            {
                "token": {"id": self._end_token_id, "text": text, "logprob": 0.0, "special": not text},
                "generated_text": self._full("".join(self._text)),
                "details": self._details(self._opening, ending),
                "switchyard": self._opening.origin,
            }
        )

    def end(self, usage: dict[str, Any], origin: Origin) -> bytes:  # noqa: ARG002 -- both stand in the last event
        return b""

    def failure(self, error: dict[str, Any]) -> bytes:
        return _event(lorax_error_object(error))

    def _full(self, text: str) -> str:
        return self._asked.prompt + text if self._asked.return_full_text else text

    def _details(self, opening: Opening, ending: Ending) -> dict[str, Any]:
        reason = "length" if ending.finish_reason == "length" else "stop_sequence" if ending.stop else "eos_token"
        return {
            "finish_reason": reason,
            "prompt_tokens": len(opening.prompt_ids),
            "generated_tokens": ending.generated,
            "seed": self._asked.seed,
        }

    def _token(self, token: TextToken) -> dict[str, Any]:
        written = _scored(token, self._spelling.of(token))
        written["special"] = token.special
        if self._asked.alternatives:
            written["alternative_tokens"] = [
                {
                    "id": candidate.token_id,
                    "text": candidate.content.decode("utf-8", "replace"),
                    "logprob": finite_logprob(candidate.logprob),
                }
                for candidate in token.top
            ]
        return written


class _Spelling:
    """The texts of tokens one after the other, which put together are the text: a character is in its last token."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, token: TextToken) -> str:
        return token.content.decode("utf-8", "replace") if token.special else self._characters.decode(token.content)

    def rest(self) -> str:
        """What an unfinished character leaves."""
        return self._characters.decode(b"", final=True)


def _prefill(tokens: Sequence[TextToken]) -> list[dict[str, Any]]:
    spelling = _Spelling()
    return [_scored(token, spelling.of(token)) for token in tokens]


def _scored(token: TextToken, text: str) -> dict[str, Any]:
    logprob = finite_logprob(token.logprob) if token.logprob is not None else None
    return {"id": token.token_id, "text": text, "logprob": logprob}


def _event(value: dict[str, Any]) -> bytes:
    return b"data:" + json_bytes(value) + b"\n\n"
