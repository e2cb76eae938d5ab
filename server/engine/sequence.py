"""One request on its way through the engine."""

import random
from dataclasses import dataclass, field
from functools import cached_property

from server.adapters.loader import LoadFailure
from server.engine.constraint import TokenConstraint
from server.engine.kv_cache import BlockHash, chain_hash, chain_root
from server.engine.messages import AdapterVersion, FinishReason, Submit, Tier
from server.engine.token_history import TokenHistory


@dataclass(eq=False)
class Sequence:
    """The mutable state of one request; only the engine thread touches it.

    `tokens` is the prompt and what was generated; the KV of the first `computed` of them lies in `blocks`.
    `adapter_wait` counts the seconds in which a row and device space were free and only the adapter was missing.
    `adapter` is what will answer: it becomes None when the request falls back to the base. `tier` is the nearest one
    that had the adapter when the request came. `constraint` is the state of its grammar. Of the prompt's tokens
    `scored` have been scored, the first one, which has no score, included.
    """

    request: Submit
    arrived: float
    tokens: list[int] = field(init=False)
    adapter: AdapterVersion | None = field(init=False)
    constraint: TokenConstraint | None = None
    tier: Tier | None = None
    computed: int = 0
    scored: int = 0
    blocks: list[int] = field(default_factory=list)
    started: bool = False
    adapter_wait: float = 0.0
    failure: LoadFailure | None = None
    finished: FinishReason | None = None
    rng: random.Random = field(init=False)
    _hashes: list[BlockHash] = field(default_factory=list)
    _drawn: float | None = None

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)
        self.adapter = self.request.adapter
        seed = self.request.sampling.seed
        # As text, since Random takes an integer seed and its negative for the same.
        self.rng = random.Random() if seed is None else random.Random(str(seed))

    @property
    def id(self) -> str:
        return self.request.request_id

    @property
    def tenant(self) -> str:
        """Whose share of the engine it takes from."""
        return self.request.tenant

    @cached_property
    def deadline(self) -> float | None:
        """When the answer must be complete, on the clock of `arrived`; None is never."""
        return None if self.request.timeout is None else self.arrived + self.request.timeout

    @property
    def digest(self) -> str | None:
        """The adapter version that answers; None is the base."""
        return self.adapter.digest if self.adapter else None

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def pending(self) -> int:
        """Tokens whose KV is still to be computed; 1 while decoding, 0 only where no token was asked for."""
        return len(self.tokens) - self.computed

    @property
    def unscored(self) -> bool:
        """Whether scores of prompt tokens are asked for and still missing."""
        return self.request.sampling.prompt_logprobs is not None and self.scored < len(self.request.prompt)

    @property
    def reusable(self) -> int:
        """Tokens whose KV may be taken from the prefix cache: what is not computed here gives no logits either."""
        last = len(self.tokens) - 1
        return min(last, max(0, self.scored - 1)) if self.unscored else last

    def scored_by(self, start: int, count: int) -> range:
        """The positions among `count` from `start` whose logits score a prompt token that has no score yet."""
        if not self.unscored:
            return range(0)
        begin = max(start, self.scored - 1)
        return range(begin, max(begin, min(start + count, len(self.request.prompt) - 1)))

    @cached_property
    def seen(self) -> TokenHistory:
        """The tokens of prompt and answer."""
        return TokenHistory()

    @cached_property
    def answered(self) -> TokenHistory:
        """The tokens of the answer."""
        return TokenHistory(len(self.request.prompt))

    def draw(self) -> float:
        """The number in [0, 1) that chooses the next token; the same one until a token is taken.

        A step that failed half-way and runs again must not move a seeded row on.
        """
        if self._drawn is None:
            self._drawn = self.rng.random()
        return self._drawn

    def end_tokens(self, eos_token_ids: frozenset[int]) -> frozenset[int]:
        """What ends the answer and is no part of it. A grammar ends with the model's own end, ignored or not."""
        sampling = self.request.sampling
        ends = frozenset(sampling.stop_token_ids)
        return ends if sampling.ignore_eos and self.constraint is None else ends | eos_token_ids

    def block_hashes(self, block_size: int) -> list[BlockHash]:
        """The hashes of all full blocks of `tokens` under the answering adapter, extended as tokens come."""
        while (end := (len(self._hashes) + 1) * block_size) <= len(self.tokens):
            parent = self._hashes[-1] if self._hashes else chain_root(self.digest)
            self._hashes.append(chain_hash(parent, self.tokens[end - block_size : end]))
        return self._hashes

    def fall_back(self, failure: LoadFailure) -> None:
        """Answer from the base instead, on KV keyed by the base."""
        self.failure = failure
        self.adapter = None
        self._hashes.clear()

    def append(self, token: int, eos_token_ids: frozenset[int]) -> bool:
        """Take a sampled token; False when it ended the sequence and is not part of the answer."""
        self._drawn = None
        if token in self.end_tokens(eos_token_ids):
            self.finished = "stop"
            return False
        self.tokens.append(token)
        if self.generated >= self.request.sampling.max_tokens:
            self.finished = "length"
        return True
