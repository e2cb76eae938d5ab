"""What one choice adds to an answer, step by step: an opening, pieces, an ending."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from server.api.constraints.content import Delta

Origin = dict[str, Any]
"""The `switchyard` object: what runs, and why it is not what was asked for."""


class Candidate(NamedTuple):
    """A token that might have stood at a place, with its exact bytes and the logarithm of its probability there."""

    token_id: int
    content: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TextToken:
    """One token of a prompt or of an answer, beside the text that it is part of.

    `content` holds its exact bytes, which need not be whole characters; `offset` is the place in the text, in
    characters, where it begins. A `special` token takes no room in the text where special tokens are left out.
    `logprob` is None for the first token of a prompt, and where no scores were asked for; `top` are the likeliest
    tokens of its place, the likeliest first.
    """

    token_id: int
    content: bytes
    offset: int
    special: bool
    logprob: float | None = None
    top: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """A choice whose target is known and whose prompt, the request's `prompt`-th, is about to run."""

    index: int
    prompt: int
    prompt_ids: Sequence[int]
    cached_tokens: int
    origin: Origin


class Piece(msgspec.Struct, frozen=True):
    """More of a choice. `text` is what it adds to the text, `deltas` what that text means (None: content alone).

    `tokens` are those that wrote the text, where the client asked to see tokens. `generated` counts the tokens
    of the choice so far. A struct, since one is made for every token of every choice.
    """

    index: int
    text: str
    tokens: Sequence[TextToken] = ()
    deltas: Sequence[Delta] | None = None
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """A choice has its last token. `stop` is the stop string that ended it, None where a token or the limit did.

    `prompt` holds the prompt's tokens with their scores, where the client asked for them.
    """

    index: int
    finish_reason: str
    stop: str | None
    generated: int
    prompt: Sequence[TextToken] = ()


ChoiceEvent = Opening | Piece | Ending


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """All of one choice, for an answer in one piece; `deltas` is None where the text is content alone."""

    opening: Opening
    text: str
    deltas: Sequence[Delta] | None
    tokens: Sequence[TextToken]
    ending: Ending


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its choices in index order, their tokens counted, and what answered."""

    choices: Sequence[ChoiceResult]
    usage: dict[str, Any]
    origin: Origin
