"""Work on answers that is too much for the event loop, which every other client's tokens pass."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from server.api.generation.pieces import Answer, TextToken
from server.engine.messages import TokenScore

LARGE: Final = 2_000
"""Scored entries; to build and write so many takes about 10 ms."""

T = TypeVar("T")


async def apart(work: Callable[[], T], entries: int) -> T:
    """The result of `work`, which is done in a thread where it deals with many entries."""
    return await asyncio.to_thread(work) if entries > LARGE else work()


def scored_entries(tokens: Sequence[TextToken] | Sequence[TokenScore | None]) -> int:
    """How many tokens these are, with the likeliest ones beside each: as many as beside the last."""
    if not tokens:
        return 0
    last = tokens[-1]
    return len(tokens) * (1 + (len(last.top) if last is not None else 0))


def answer_entries(answer: Answer) -> int:
    """The same of all that a whole answer may show."""
    return sum(scored_entries(choice.tokens) + scored_entries(choice.ending.prompt) for choice in answer.choices)
