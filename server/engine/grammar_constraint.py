"""Grammars of llguidance as constraints of sequences."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer

from server.engine.constraint import TokenConstraint
from server.engine.grammar import LIMITS, grammar_message

CACHED_GRAMMARS = 64

_SILENT = 0


class GrammarConstraint:
    """One sequence's place in its grammar; see `TokenConstraint`."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, words: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._bits = np.zeros(words, dtype=np.uint32)

    def mask(self) -> torch.Tensor:
        """The tokens allowed next: bool [vocabulary of the model]."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), count=self._vocab_size, bitorder="little")
        return torch.from_numpy(bits.view(np.bool_))

    def advance(self, token: int) -> None:
        """Take the chosen token."""
        if not self._matcher.consume_token(token):
            self._check()
            raise RuntimeError(f"the grammar does not allow token {token}")

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(grammar_message(self._matcher.get_error()))


class GrammarCompiler:
    """Compiles grammars for one base. Any thread may call it.

    A compiled grammar is kept; a sequence gets a copy of it in a few microseconds.
    """

    def __init__(self, directory: Path, *, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        """`directory` holds the base's tokenizer.json, `vocab_size` is the width of its logits."""
        self._directory = directory
        self._vocab_size = vocab_size
        self._eos = tuple(eos_token_ids)
        self._reading = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._unreadable: str | None = None
        self._keeping = threading.Lock()
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def prepare(self) -> None:
        """Read the tokenizer, which holds the interpreter's lock for a fraction of a second or longer.

        A tokenizer that cannot be used is told to each request with a grammar, and hinders no other.
        """
        with contextlib.suppress(ValueError):
            self._read()

    def compile(self, grammar: str) -> TokenConstraint:
        """A constraint at the beginning of a grammar in llguidance's serialised form.

        Takes from microseconds, for a grammar that it has seen, to about a second; after `prepare` the interpreter's
        lock is free meanwhile.

        Raises:
            ValueError: the grammar is malformed, allows nothing, or is too complex; or the base's tokenizer cannot
                be used with grammars. The message is meant for the client.
        """
        tokenizer = self._read()
        with self._keeping:
            matcher = self._compiled.get(grammar)
            if matcher is not None:
                self._compiled.move_to_end(grammar)
        if matcher is None:
            matcher = _compile(tokenizer, grammar)
            with self._keeping:
                self._compiled[grammar] = matcher
                if len(self._compiled) > CACHED_GRAMMARS:
                    self._compiled.popitem(last=False)
        return GrammarConstraint(matcher.deep_copy(), self._vocab_size, (tokenizer.vocab_size + 31) // 32)

    def _read(self) -> LLTokenizer:
        with self._reading:
            if self._tokenizer is None and self._unreadable is None:
                try:
                    self._tokenizer = _tokenizer(self._directory, self._vocab_size, self._eos)
                except ValueError as error:
                    self._unreadable = f"grammars cannot be used with this base: {error}"
            if self._tokenizer is None:
                raise ValueError(self._unreadable)
            return self._tokenizer


def _compile(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    matcher = LLMatcher(tokenizer, grammar, log_level=_SILENT, limits=LIMITS)
    if not matcher.is_error():
        # Much is built when it is first needed. Here it holds up nobody, and shows what is too complex.
        matcher.compute_bitmask()
    if matcher.is_error():
        raise ValueError(f"the grammar cannot be used: {grammar_message(matcher.get_error())}")
    return matcher


def _tokenizer(directory: Path, vocab_size: int, eos_token_ids: Sequence[int]) -> LLTokenizer:
    """Raises ValueError where the tokenizer cannot be read."""
    if not eos_token_ids:
        raise ValueError("the model has no end-of-sequence token, with which an answer could end")
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ValueError("it has no tokenizer.json")
    try:
        return LLTokenizer(str(path), n_vocab=vocab_size, eos_token=list(eos_token_ids))
    except ValueError:
        # A tokenizer may have more tokens than its model; the masks are cut to what the model has.
        return LLTokenizer(str(path), eos_token=list(eos_token_ids))
