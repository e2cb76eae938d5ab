"""Tokens with their scores, in the shapes of OpenAI and vLLM.

JSON has no infinity: a probability of 0 is written as vLLM writes it, as the logarithm -9999.
"""

from collections.abc import Sequence
from typing import Any

from server.api.generation.pieces import Candidate, TextToken

_LOWEST = -9999.0


class TokenSpelling:
    """How tokens are named in an answer: by their text, or by their id (`token_id:17`) where the client says so."""

    def __init__(self, *, as_ids: bool) -> None:
        self._as_ids = as_ids

    def legacy(self, token: TextToken | Candidate) -> str:
        """As `/v1/completions` names a token; one that is no whole text is spelt in bytes."""
        if self._as_ids:
            return f"token_id:{token.token_id}"
        try:
            return token.content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.content)

    def chat(self, token: TextToken | Candidate) -> str:
        """As chat answers name a token, whose bytes stand beside it."""
        if self._as_ids:
            return f"token_id:{token.token_id}"
        return token.content.decode("utf-8", "backslashreplace")


def completion_logprobs(tokens: Sequence[TextToken], count: int, spelling: TokenSpelling) -> dict[str, Any]:
    """The `logprobs` object of a choice of `/v1/completions`, with `count` of the likeliest tokens a place."""
    return {
        "tokens": [spelling.legacy(token) for token in tokens],
        "token_logprobs": [finite_logprob(token.logprob) if token.logprob is not None else None for token in tokens],
        "top_logprobs": [_likeliest(token, count, spelling) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _likeliest(token: TextToken, count: int, spelling: TokenSpelling) -> dict[str, float] | None:
    """The likeliest tokens of a place by their text, with the one that stands there; of equal texts the likelier."""
    if token.logprob is None:
        return None
    likeliest: dict[str, float] = {}
    for candidate in token.top[:count]:
        likeliest.setdefault(spelling.legacy(candidate), finite_logprob(candidate.logprob))
    likeliest.setdefault(spelling.legacy(token), finite_logprob(token.logprob))
    return likeliest


def chat_logprobs(tokens: Sequence[TextToken], spelling: TokenSpelling) -> dict[str, Any]:
    """The `logprobs` object of a choice of a chat."""
    return {
        "content": [
            {
                **_chat_token(token, token.logprob if token.logprob is not None else _LOWEST, spelling),
                "top_logprobs": [_chat_token(candidate, candidate.logprob, spelling) for candidate in token.top],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _chat_token(token: TextToken | Candidate, logprob: float, spelling: TokenSpelling) -> dict[str, Any]:
    return {"token": spelling.chat(token), "logprob": finite_logprob(logprob), "bytes": list(token.content)}


def prompt_logprobs(tokens: Sequence[TextToken], count: int) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: of each token of a prompt but the first, it and the `count` likeliest by their ids.

    `rank` counts from 1, and is null for a token that is not among the likeliest.
    """
    return [_ranked(token, count) if token.logprob is not None else None for token in tokens]


def _ranked(token: TextToken, count: int) -> dict[str, Any]:
    ranks = {candidate.token_id: rank for rank, candidate in enumerate(token.top, start=1)}
    own = Candidate(token.token_id, token.content, token.logprob if token.logprob is not None else _LOWEST)
    return {
        str(candidate.token_id): {
            "logprob": finite_logprob(candidate.logprob),
            "rank": ranks.get(candidate.token_id),
            "decoded_token": candidate.content.decode("utf-8", "replace"),
        }
        for candidate in (own, *token.top[:count])
    }


def finite_logprob(logprob: float) -> float:
    """The logarithm of a probability as JSON can hold it."""
    return max(logprob, _LOWEST)
