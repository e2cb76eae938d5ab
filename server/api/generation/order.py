"""What a client asked for, in no endpoint's words: the value that every generating route submits."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from server.api.constraints.content import ContentReader
from server.api.generation.choice_text import EncodedPrompt, TextOptions
from server.api.generation.seeds import choice_seed
from server.api.routing.model_names import Target
from server.api.routing.router import Routing
from server.api.text.tokenization import Tokenization
from server.engine.messages import FallbackPolicy, SamplingParams


@dataclass(frozen=True)
class PlannedPrompt:
    """One prompt, and how tokens are chosen after it."""

    encoded: EncodedPrompt
    sampling: SamplingParams


@dataclass(frozen=True)
class Plan:
    """How one target would answer an order: its own tokens of the prompts, sampling and stop strings."""

    target: Target
    tokenization: Tokenization
    prompts: Sequence[PlannedPrompt]
    text: TextOptions


@dataclass(frozen=True)
class Order:
    """`n` choices for each prompt. `model` is what the client called it.

    `plans` has one plan for each target of the routing, in its order, and all have the same number of prompts.
    `priority` is the engine's: higher is earlier. `deadline` is when all must be answered, on the monotonic clock.
    `fallback` is the policy of the last of them. `reader` makes the reader of one choice.
    `plan` makes plans for further targets; without it, shadows get no copies.
    """

    model: str
    routing: Routing
    plans: Sequence[Plan]
    fallback: FallbackPolicy
    n: int = 1
    priority: int = 0
    deadline: float | None = None
    reader: Callable[[], ContentReader] | None = None
    plan: Callable[[Sequence[Target]], Awaitable[Sequence[Plan]]] | None = None

    def prompt_of(self, index: int) -> int:
        """Which prompt a choice continues: choices are numbered prompt by prompt."""
        return index // self.n

    def sampling_of(self, plan: Plan, index: int) -> SamplingParams:
        """A choice's own sampling: of one prompt's choices each has its seed, and only the first scores the prompt."""
        sampling = plan.prompts[self.prompt_of(index)].sampling
        number = index % self.n
        if number == 0:
            return sampling
        seed = None if sampling.seed is None else choice_seed(sampling.seed, number)
        return msgspec.structs.replace(sampling, seed=seed, prompt_logprobs=None)

    @property
    def scores_prompts(self) -> bool:
        """Whether the client sees scores of the prompts' tokens."""
        return any(prompt.sampling.prompt_logprobs is not None for prompt in self.plans[0].prompts)
