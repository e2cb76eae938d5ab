"""The paged KV cache's book-keeping: which blocks are free, used, or kept for their prefix.

Pure Python; the tensors belong to the runner. A block holds `block_size` tokens of every layer, and is a page of the
memory that adapters use too: `PagePool` says who holds it. A full block is known by a chained hash of its adapter and
of all tokens up to its end, so that equal prefixes *of the same adapter version* share blocks and different adapters
never do.

Invariants: a block in use has as many references as there are sequences whose tables hold it; a block that is kept
for its prefix has none and is found by exactly one hash.
"""

from array import array
from collections.abc import Sequence as Seq
from hashlib import blake2b

from server.engine.page_pool import PagePool

BlockHash = bytes


def chain_root(adapter_digest: str | None) -> BlockHash:
    """The hash before the first block: the adapter version, or the bare base."""
    return blake2b((adapter_digest or "base").encode(), digest_size=16).digest()


def chain_hash(parent: BlockHash, tokens: Seq[int]) -> BlockHash:
    """The hash of a full block of `tokens` that follows `parent`."""
    return blake2b(parent + array("I", tokens).tobytes(), digest_size=16).digest()


class KVCache:
    """Takes blocks from the pool, counts their references and finds reusable prefixes."""

    def __init__(self, pages: PagePool, block_size: int, *, prefix_cache: bool = True) -> None:
        self.pages = pages
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self._references: dict[int, int] = {}
        self._hash_of: dict[int, BlockHash] = {}
        self._block_of: dict[BlockHash, int] = {}
        pages.on_forget = self._forget

    @property
    def available(self) -> int:
        """Blocks that `allocate` can give out."""
        return self.pages.kv_available

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return len(self._references)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` blocks, giving up the longest unused prefixes where needed; None (and no change) if too few."""
        blocks = self.pages.take(count)
        if blocks is not None:
            self._references.update(dict.fromkeys(blocks, 1))
        return blocks

    def match(self, hashes: Seq[BlockHash]) -> list[int]:
        """The longest run of cached blocks along `hashes`; nothing is referenced yet."""
        blocks: list[int] = []
        for block_hash in hashes:
            block = self._block_of.get(block_hash)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def matched_reusable(self, blocks: Seq[int]) -> int:
        """How many of the matched `blocks` no sequence holds: `share` takes these from what is available."""
        return sum(self.pages.is_kept(block) for block in blocks)

    def share(self, blocks: Seq[int]) -> None:
        """Reference blocks that `match` found."""
        for block in blocks:
            if self.pages.is_kept(block):
                self.pages.use_again(block)
            self._references[block] = self._references.get(block, 0) + 1

    def seal(self, block: int, block_hash: BlockHash) -> None:
        """Make a full block findable by its hash. A second block of the same content stays unknown."""
        if self.prefix_cache and block not in self._hash_of and block_hash not in self._block_of:
            self._hash_of[block] = block_hash
            self._block_of[block_hash] = block

    def release(self, blocks: Seq[int]) -> None:
        """Drop one reference of each block; sealed ones stay reusable until their space is needed.

        Later blocks are given up before earlier ones, since a prefix is only found from its beginning.
        """
        for block in reversed(blocks):
            left = self._references[block] - 1
            if left:
                self._references[block] = left
                continue
            del self._references[block]
            if block in self._hash_of:
                self.pages.keep(block)
            else:
                self.pages.put_back(block)

    def check(self) -> None:
        """Raise AssertionError unless the invariants of this module hold."""
        self.pages.check()
        assert len(self._references) == self.pages.in_use
        assert not any(self.pages.is_kept(block) for block in self._references)
        assert all(count > 0 for count in self._references.values())
        assert {block: self._block_of[h] for block, h in self._hash_of.items()} == {b: b for b in self._hash_of}
        assert len(self._hash_of) == len(self._block_of)
        assert self.pages.kept == sum(self.pages.is_kept(block) for block in self._hash_of)

    def _forget(self, block: int) -> None:
        """A kept block was taken for something else."""
        del self._block_of[self._hash_of.pop(block)]
