"""How one target wants its prompts written and its answers ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.api.model_names import Target
from server.api.tokenization import Tokenization


@dataclass(frozen=True)
class Prompting:
    """The tokenizer and chat template of a target, with what its answers end at and how it likes to be sampled.

    `stops` are stop strings beside the request's own. `sampling` holds defaults for request fields that the
    client left out, by the field's name (`temperature`, `top_p`, `top_k`, `repetition_penalty`, `min_p`).
    """

    tokenization: Tokenization
    stops: tuple[str, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)


class Promptings:
    """The prompting of every target: the base's own, and those that adapter versions bring along."""

    def __init__(self, base: Tokenization) -> None:
        self._base = Prompting(base)

    async def of(self, target: Target) -> Prompting:  # noqa: ARG002
        """The prompting of a target."""
        return self._base
