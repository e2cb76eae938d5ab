"""The events of several choices, gathered into one whole answer."""

from collections.abc import AsyncIterable, Sequence

from server.api.constraints.content import Delta
from server.api.generation.pieces import Answer, ChoiceEvent, ChoiceResult, Ending, Opening, Piece, TextToken
from server.api.generation.tally import Tally


async def gathered(events: AsyncIterable[ChoiceEvent]) -> Answer:
    """The answer that the events make, when all of them have come."""
    choices: dict[int, _Gathering] = {}
    tally = Tally()
    async for event in events:
        if isinstance(event, Piece):
            choices[event.index].pieces.append(event)
        elif isinstance(event, Opening):
            tally.open(event)
            choices[event.index] = _Gathering(event)
        else:
            tally.close(event)
            choices[event.index].ending = event
    return Answer([choices[index].result() for index in sorted(choices)], tally.usage(), tally.origin())


class _Gathering:
    """One choice as it comes."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.pieces: list[Piece] = []
        self.ending: Ending | None = None

    def result(self) -> ChoiceResult:
        """The choice as a whole; it has ended."""
        assert self.ending is not None
        tokens: list[TextToken] = []
        for piece in self.pieces:
            tokens += piece.tokens
        return ChoiceResult(
            opening=self.opening,
            text="".join(piece.text for piece in self.pieces),
            deltas=self._deltas(),
            tokens=tokens,
            ending=self.ending,
        )

    def _deltas(self) -> Sequence[Delta] | None:
        if all(piece.deltas is None for piece in self.pieces):
            return None
        return [delta for piece in self.pieces for delta in piece.deltas or ()]
