"""The paged KV cache's book-keeping: which blocks are free, used, or kept for their prefix.

Pure Python; the tensors belong to the runner. A block holds `block_size` tokens of every layer. A full block
is known by a chained hash of its adapter and of all tokens up to its end, so that equal prefixes *of the same
adapter version* share blocks and different adapters never do.

Invariants: every block is in exactly one of free / reusable / in use; a block's references equal the number of
sequences whose tables hold it; a reusable block has no reference and is found by exactly one hash.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence as Seq
from hashlib import blake2b

BlockHash = bytes


def chain_root(adapter_digest: str | None) -> BlockHash:
    """The hash before the first block: the adapter version, or the bare base."""
    return blake2b((adapter_digest or "base").encode(), digest_size=16).digest()


def chain_hash(parent: BlockHash, tokens: Seq[int]) -> BlockHash:
    """The hash of a full block of `tokens` that follows `parent`."""
    return blake2b(parent + array("I", tokens).tobytes(), digest_size=16).digest()


class KVCache:
    """Allocates blocks, counts their references and finds reusable prefixes."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self._free: deque[int] = deque(range(num_blocks))
        self._reusable: OrderedDict[int, None] = OrderedDict()
        self._references: dict[int, int] = {}
        self._hash_of: dict[int, BlockHash] = {}
        self._block_of: dict[BlockHash, int] = {}

    @property
    def available(self) -> int:
        """Blocks that `allocate` can give out."""
        return len(self._free) + len(self._reusable)

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return len(self._references)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` blocks, giving up the longest unused prefixes where needed; None (and no change) if too few."""
        if count > self.available:
            return None
        blocks = []
        for _ in range(count):
            if self._free:
                block = self._free.popleft()
            else:
                block, _none = self._reusable.popitem(last=False)
                del self._block_of[self._hash_of.pop(block)]
            self._references[block] = 1
            blocks.append(block)
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
        return sum(block in self._reusable for block in blocks)

    def share(self, blocks: Seq[int]) -> None:
        """Reference blocks that `match` found."""
        for block in blocks:
            self._reusable.pop(block, None)
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
                self._reusable[block] = None
            else:
                self._free.append(block)

    def check(self) -> None:
        """Raise AssertionError unless the invariants of this module hold."""
        free, reusable, used = set(self._free), set(self._reusable), set(self._references)
        assert len(free) == len(self._free)
        assert not free & reusable
        assert not used & (free | reusable)
        assert free | reusable | used == set(range(self.num_blocks))
        assert all(count > 0 for count in self._references.values())
        assert {block: self._block_of[h] for block, h in self._hash_of.items()} == {b: b for b in self._hash_of}
        assert reusable <= set(self._hash_of)
