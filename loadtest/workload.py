"""What is asked: a seeded stream of chat prompts over adapters of unequal popularity."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

_CUSTOMERS = ("A bakery", "A school", "A travel agency", "A small museum", "A cycling club", "A print shop", "A clinic")
_PLACES = ("Lyon", "Porto", "Leeds", "Graz", "Bergen", "Ghent", "Turin", "Gdansk")
_GOODS = ("paper labels", "folding chairs", "name badges", "garden lamps", "wool blankets", "coffee filters")
_FAULTS = (
    "half of the parcel is missing",
    "the colour differs from the picture",
    "the invoice shows another address",
    "the delivery came four days late",
    "two of the boxes were opened on the way",
)
_WISHES = (
    "wants to know whether a refund or a second delivery is quicker",
    "asks for a corrected invoice before the end of the month",
    "would keep the goods for a lower price",
    "needs a replacement before a public event on Saturday",
)
_COUNTS = ("first", "second", "third")
_TASKS = (
    "Write a short and friendly answer to the customer.",
    "Summarise the case in one sentence and name the next step.",
    "List what the support team has to find out first.",
    "Say which department should take the case over, and why.",
)


@dataclass(frozen=True)
class WorkItem:
    """One request: `model` is asked `prompt` (a user's chat message) for `max_tokens` tokens.

    An open loop sends it `at` so many seconds from the start.
    """

    index: int
    model: str
    prompt: str
    max_tokens: int
    at: float = 0.0
    tenant: str = ""


@dataclass(frozen=True)
class Workload:
    """A reproducible load: equal values give equal items.

    The k-th most popular adapter (k from 1) is asked in proportion to `k ** -zipf`; 0 is uniform. Which adapter is how
    popular follows from `seed`. Every prompt differs from every other, as the customers of a real server do, so that a
    prefix cache can share no more than the chat template.
    """

    adapters: tuple[str, ...]
    requests: int
    max_tokens: int
    zipf: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.adapters:
            raise ValueError("adapters: name at least one")
        if self.requests < 1 or self.max_tokens < 1:
            raise ValueError("requests and max_tokens must be positive")
        if self.zipf < 0:
            raise ValueError("zipf must not be negative")

    def popularity(self) -> dict[str, float]:
        """The share of requests that each adapter is asked for, most popular first; the shares sum to 1."""
        ordered = Random(f"popularity/{self.seed}").sample(self.adapters, len(self.adapters))
        weights = [rank**-self.zipf for rank in range(1, len(ordered) + 1)]
        total = sum(weights)
        return {name: weight / total for name, weight in zip(ordered, weights, strict=True)}

    def items(self, run: int = 0) -> tuple[WorkItem, ...]:
        """The requests of run number `run`: every run has the same popularity and prompts of its own."""
        random = Random(f"items/{self.seed}/{run}")
        shares = self.popularity()
        models = random.choices(tuple(shares), cum_weights=tuple(accumulate(shares.values())), k=self.requests)
        tickets = random.sample(range(100_000, 1_000_000), self.requests)
        return tuple(
            WorkItem(index, model, _prompt(random, ticket), self.max_tokens)
            for index, (model, ticket) in enumerate(zip(models, tickets, strict=True))
        )


def _prompt(random: Random, ticket: int) -> str:
    def one_of(phrases: Sequence[str]) -> str:
        return random.choice(phrases)

    return (
        f"Ticket {ticket}. {one_of(_CUSTOMERS)} from {one_of(_PLACES)} ordered {random.randrange(20, 400)} "
        f"{one_of(_GOODS)} and writes that {one_of(_FAULTS)}. It is their {one_of(_COUNTS)} order "
        f"this year. The customer {one_of(_WISHES)}. {one_of(_TASKS)}"
    )
