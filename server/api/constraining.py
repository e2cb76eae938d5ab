"""What binds an answer to a form: a grammar for its tokens, and a reader for its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from server.api.content import ContentReader
from server.api.protocol.generation_request import GenerationRequest

if TYPE_CHECKING:
    from server.api.context import ServedModel


@dataclass(frozen=True)
class Constraining:
    """How one request's answers are bound. All None: they are free text.

    `grammar` is llguidance's serialised form. `reader` makes the reader of one choice. `tools` are what the chat
    template is to write out.
    """

    grammar: str | None = None
    reader: Callable[[], ContentReader] | None = None
    tools: Sequence[dict[str, Any]] | None = None


async def constraint_of(asked: GenerationRequest, model: "ServedModel") -> Constraining:  # noqa: ARG001
    """What binds the answers to a request.

    Raises:
        InvalidRequest: what was asked for cannot be made into a grammar; `param` is the field.
    """
    return Constraining()
