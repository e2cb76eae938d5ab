"""A model without a preference, which writes whatever a grammar lets it."""

import random
from pathlib import Path

from server.engine.constraint import TokenConstraint
from server.engine.grammar_constraint import GrammarCompiler
from tests.tiny_models import VOCABULARY, tiny_tokenizer

END = 257


class RandomWriter:
    """Writes with the byte-level tokenizer of the tiny models, which has one more token where `special` is given."""

    def __init__(self, directory: Path, *, special: str | None = None) -> None:
        """`directory` is where the tokenizer is put."""
        self.tokenizer = tiny_tokenizer()
        if special is not None:
            self.tokenizer.add_special_tokens({"additional_special_tokens": [special]})
        self.tokenizer.save_pretrained(directory)
        self.compiler = GrammarCompiler(directory, vocab_size=VOCABULARY, eos_token_ids=(END,))

    def write(
        self, grammar: str, rng: random.Random, *, start: str = "", limit: int = 2000, prefer: str | None = None
    ) -> str:
        """A text that begins with `start` and ends by itself; `prefer` is the character to take wherever it may be.

        Raises:
            AssertionError: the grammar does not allow `start`, or has no end within `limit` tokens.
        """
        constraint = self.compiler.compile(grammar)
        tokens = [self._taken(constraint, token) for token in self.tokenizer.encode(start)]
        preferred = self.tokenizer.encode(prefer)[0] if prefer is not None else None
        while len(tokens) < limit:
            allowed: list[int] = constraint.mask().nonzero().flatten().tolist()
            token = preferred if preferred is not None and preferred in allowed else rng.choice(allowed)
            if token == END:
                return str(self.tokenizer.decode(tokens))
            tokens.append(self._taken(constraint, token))
        raise AssertionError(f"no end within {limit} tokens")

    def _taken(self, constraint: TokenConstraint, token: int) -> int:
        assert constraint.mask()[token], f"{self.tokenizer.decode([token])!r} is not allowed"
        constraint.advance(token)
        return token
