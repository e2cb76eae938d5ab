"""How one endpoint writes its answers: the one interface between what happens and what is sent."""

from typing import Any, Protocol

from server.api.generation.pieces import Answer, Ending, Opening, Origin, Piece


class AnswerFormat(Protocol):
    """Writes one answer: `whole`, or as server-sent events by the other methods, which may keep state.

    Of each choice of a stream comes `first`, any number of `more`, and `last`; after the last one of all `end`.
    """

    def whole(self, answer: Answer) -> Any:
        """The answer in one piece, as JSON."""

    def first(self, opening: Opening, piece: Piece) -> bytes:
        """The events that begin a choice, with its first piece."""

    def more(self, piece: Piece) -> bytes:
        """The events of a further piece."""

    def last(self, ending: Ending) -> bytes:
        """The events that end a choice."""

    def end(self, usage: dict[str, Any], origin: Origin) -> bytes:
        """The events that end the stream."""

    def failure(self, error: dict[str, Any]) -> bytes:
        """The event of an error on the way, after which nothing comes."""
