"""Prefixes that sequences have in common: one computes them, the others wait for it."""

from server.engine.kv_cache import BlockHash, KVCache
from server.engine.sequence import Sequence


class SharedPrefixes:
    """Says which full blocks a sequence is about to compute, and which it could take from another.

    Choices of one prompt, and requests that begin alike, so pay once.
    """

    def __init__(self, kv_cache: KVCache) -> None:
        self._kv = kv_cache

    def unsealed(self, sequence: Sequence) -> set[BlockHash]:
        """The prefixes that a sequence is about to compute; none while it decodes, or where none are kept."""
        if sequence.pending <= 1 or not self._kv.prefix_cache:
            return set()
        size = self._kv.block_size
        return set(sequence.block_hashes(size)[sequence.computed // size :])

    def next_missing(self, sequence: Sequence) -> BlockHash | None:
        """The first prefix that a waiting sequence would have to compute and could take from another instead."""
        hashes = sequence.block_hashes(self._kv.block_size)[: sequence.reusable // self._kv.block_size]
        cached = len(self._kv.match(hashes))
        return hashes[cached] if cached < len(hashes) else None
