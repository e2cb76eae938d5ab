"""The scored tokens of one prompt, for all the choices that continue it."""

import asyncio
from collections.abc import Sequence

from server.api.generation.pieces import TextToken
from server.api.routing.model_names import Target

Source = tuple[Target, str | None]
"""Whose tokens they are, and the digest of what scored them: the base's (None) where a choice fell back to it."""


class SharedPrompt:
    """What the first choice of a prompt learns of the prompt's tokens, told to the others.

    The engine scores a prompt once, however many choices continue it: a row that scores reuses no cached prefix, and
    the scores are many. The others wait for the first one; if that one fails, so does their whole request.
    """

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._source: Source | None = None
        self._tokens: Sequence[TextToken] = ()

    def tell(self, source: Source, tokens: Sequence[TextToken]) -> None:
        """The prompt's tokens, as `source` scored them for the first choice."""
        self._source, self._tokens = source, tokens
        self._told.set()

    async def of(self, source: Source) -> Sequence[TextToken] | None:
        """The prompt's tokens once they are there; None where they are another source's, which are no one else's."""
        await self._told.wait()
        return self._tokens if source == self._source else None
