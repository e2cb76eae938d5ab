"""Who may hold, find and give up which block."""

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from server.engine.kv_cache import BlockHash, KVCache, chain_hash, chain_root
from server.engine.page_pool import PagePool

BLOCKS = 7
BLOCK_SIZE = 2
Prefix = tuple[str | None, tuple[int, ...]]

adapters = st.sampled_from([None, "sha256:a", "sha256:b"])
token_lists = st.lists(st.integers(0, 1), min_size=1, max_size=8)


def hashes(adapter: str | None, tokens: Seq[int]) -> list[BlockHash]:
    """The chain of hashes over all full blocks of `tokens`."""
    chain = [chain_root(adapter)]
    for end in range(BLOCK_SIZE, len(tokens) + 1, BLOCK_SIZE):
        chain.append(chain_hash(chain[-1], tokens[end - BLOCK_SIZE : end]))
    return chain[1:]


def prefixes(adapter: str | None, tokens: Seq[int]) -> list[Prefix]:
    """What the full blocks of `tokens` stand for: the adapter and all tokens up to the block's end."""
    return [(adapter, tuple(tokens[:end])) for end in range(BLOCK_SIZE, len(tokens) + 1, BLOCK_SIZE)]


def filled(cache: KVCache, adapter: str | None, tokens: Seq[int]) -> list[int]:
    """The blocks of a sequence that has computed `tokens`, all of them new."""
    blocks = cache.allocate(cache.blocks_for(len(tokens)))
    assert blocks is not None
    for block, block_hash in zip(blocks, hashes(adapter, tokens), strict=False):
        cache.seal(block, block_hash)
    return blocks


@dataclass(eq=False)
class Holder:
    """A sequence as the cache's user keeps it."""

    adapter: str | None
    tokens: list[int]
    blocks: list[int]
    sealed: int


class KVCacheMachine(RuleBasedStateMachine):
    """Sequences that come, grow, seal and go, beside a model that knows each block's holders and content."""

    holders = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(PagePool(kv_floor=BLOCKS), BLOCK_SIZE)
        self.references: Counter[int] = Counter()
        self.content: dict[int, Prefix] = {}

    def allocate(self, count: int) -> list[int] | None:
        possible = BLOCKS - len(self.references)
        blocks = self.cache.allocate(count)
        if count > possible:
            assert blocks is None
            return None
        assert blocks is not None
        assert len(set(blocks)) == count
        assert not set(blocks) & set(self.references)
        for block in blocks:
            self.references[block] = 1
            self.content.pop(block, None)
        return blocks

    @rule(target=holders, adapter=adapters, tokens=token_lists)
    def start(self, adapter: str | None, tokens: list[int]) -> object:
        wanted = prefixes(adapter, tokens)
        cached = self.cache.match(hashes(adapter, tokens))
        assert [self.content[block] for block in cached] == wanted[: len(cached)]
        assert not set(wanted[len(cached) : len(cached) + 1]) & set(self.content.values())
        unheld = [block for block in cached if block not in self.references]
        assert self.cache.matched_reusable(cached) == len(unheld)
        missing = self.cache.blocks_for(len(tokens)) - len(cached)
        if missing > self.cache.available - len(unheld):
            return multiple()
        self.cache.share(cached)
        self.references.update(cached)
        blocks = self.allocate(missing)
        assert blocks is not None
        return Holder(adapter, tokens, cached + blocks, len(cached))

    @rule(holder=holders, token=st.integers(0, 1))
    def grow(self, holder: Holder, token: int) -> None:
        if len(holder.tokens) == len(holder.blocks) * BLOCK_SIZE:
            blocks = self.allocate(1)
            if blocks is None:
                return
            holder.blocks = holder.blocks + blocks
        holder.tokens = [*holder.tokens, token]

    @rule(holder=holders)
    def seal(self, holder: Holder) -> None:
        wanted = prefixes(holder.adapter, holder.tokens)
        if holder.sealed == len(wanted):
            return
        block, prefix = holder.blocks[holder.sealed], wanted[holder.sealed]
        self.cache.seal(block, hashes(holder.adapter, holder.tokens)[holder.sealed])
        holder.sealed += 1
        if prefix not in self.content.values():
            self.content[block] = prefix

    @rule(holder=consumes(holders))
    def release(self, holder: Holder) -> None:
        self.cache.release(holder.blocks)
        self.references.subtract(holder.blocks)
        self.references = +self.references

    @rule()
    def ask_for_too_much(self) -> None:
        assert self.cache.allocate(self.cache.available + 1) is None

    @invariant()
    def books_agree(self) -> None:
        self.cache.check()
        assert self.cache.used == len(self.references)
        assert self.cache.available == BLOCKS - len(self.references)


KVCacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestKVCacheAgainstItsModel = KVCacheMachine.TestCase


@given(tokens=st.lists(st.integers(0, 2**32 - 1), min_size=BLOCK_SIZE, max_size=8))
@settings(max_examples=50, deadline=None)
def test_equal_tokens_share_blocks_under_one_adapter_and_never_across_adapters(tokens: list[int]) -> None:
    for owner in (None, "sha256:a", "sha256:b"):
        cache = KVCache(PagePool(kv_floor=4), BLOCK_SIZE)
        blocks = filled(cache, owner, tokens)
        for asker in (None, "sha256:a", "sha256:b"):
            found = cache.match(hashes(asker, tokens))
            assert found == (blocks[: len(tokens) // BLOCK_SIZE] if asker == owner else [])


def test_a_block_is_found_only_behind_the_tokens_it_was_computed_behind() -> None:
    cache = KVCache(PagePool(kv_floor=4), BLOCK_SIZE)
    filled(cache, None, [1, 2, 3, 4])
    assert cache.match(hashes(None, [9, 9, 3, 4])) == []
    assert len(cache.match(hashes(None, [1, 2, 3, 5]))) == 1


def test_a_match_takes_nothing_until_it_is_shared() -> None:
    cache = KVCache(PagePool(kv_floor=2), BLOCK_SIZE)
    blocks = filled(cache, None, [1, 2])
    cache.release(blocks)
    assert cache.match(hashes(None, [1, 2])) == blocks
    assert (cache.used, cache.available) == (0, 2)
    cache.share(blocks)
    assert (cache.used, cache.available) == (1, 1)


def test_free_blocks_go_before_prefixes_and_the_longest_unused_prefix_goes_first() -> None:
    cache = KVCache(PagePool(kv_floor=5), BLOCK_SIZE)
    old, young = filled(cache, "sha256:old", [1, 2]), filled(cache, "sha256:young", [1, 2])
    cache.release(old)
    cache.release(young)
    assert cache.allocate(3) is not None
    assert cache.match(hashes("sha256:old", [1, 2])) == old
    assert cache.allocate(1) == old
    assert cache.match(hashes("sha256:old", [1, 2])) == []
    assert cache.match(hashes("sha256:young", [1, 2])) == young


def test_use_makes_a_prefix_young_again() -> None:
    cache = KVCache(PagePool(kv_floor=2), BLOCK_SIZE)
    first, second = filled(cache, "sha256:first", [1, 2]), filled(cache, "sha256:second", [1, 2])
    cache.release(first)
    cache.release(second)
    cache.share(first)
    cache.release(first)
    assert cache.allocate(1) == second


def test_later_blocks_of_a_prefix_are_given_up_before_earlier_ones() -> None:
    cache = KVCache(PagePool(kv_floor=3), BLOCK_SIZE)
    tokens = [1, 2, 3, 4, 5, 6]
    blocks = filled(cache, None, tokens)
    cache.release(blocks)
    for left in (2, 1, 0):
        assert cache.allocate(1) == [blocks[left]]
        assert cache.match(hashes(None, tokens)) == blocks[:left]


def test_a_shared_block_stays_until_its_last_holder_goes() -> None:
    cache = KVCache(PagePool(kv_floor=1), BLOCK_SIZE)
    blocks = filled(cache, None, [1, 2])
    cache.share(blocks)
    cache.release(blocks)
    assert cache.allocate(1) is None
    cache.release(blocks)
    assert cache.allocate(1) == blocks


def test_a_second_block_of_the_same_content_stays_unknown() -> None:
    cache = KVCache(PagePool(kv_floor=2), BLOCK_SIZE)
    first, second = filled(cache, None, [1, 2]), filled(cache, None, [1, 2])
    assert cache.match(hashes(None, [1, 2])) == first
    cache.release(second)
    assert cache.matched_reusable(second) == 0
    cache.check()


def test_a_block_behind_a_gap_is_not_found() -> None:
    cache = KVCache(PagePool(kv_floor=3), BLOCK_SIZE)
    tokens = [1, 2, 3, 4]
    first, second = filled(cache, None, tokens[:2]), filled(cache, None, tokens)
    assert cache.match(hashes(None, tokens)) == [first[0], second[1]]
    cache.release(first)
    assert cache.allocate(1) == first
    assert cache.match(hashes(None, tokens)) == []


def test_a_refused_allocation_gives_no_prefix_up() -> None:
    cache = KVCache(PagePool(kv_floor=2), BLOCK_SIZE)
    blocks = filled(cache, None, [1, 2])
    cache.release(blocks)
    assert cache.allocate(3) is None
    assert cache.match(hashes(None, [1, 2])) == blocks


def test_without_the_prefix_cache_nothing_is_ever_found() -> None:
    cache = KVCache(PagePool(kv_floor=2), BLOCK_SIZE, prefix_cache=False)
    blocks = filled(cache, None, [1, 2, 3, 4])
    assert cache.match(hashes(None, [1, 2, 3, 4])) == []
    cache.release(blocks)
    assert cache.match(hashes(None, [1, 2, 3, 4])) == []
    cache.check()


@given(tokens=st.integers(0, 100), size=st.integers(1, 17))
def test_blocks_for_is_the_least_number_that_holds_the_tokens(tokens: int, size: int) -> None:
    count = KVCache(PagePool(kv_floor=1), size).blocks_for(tokens)
    assert count * size >= tokens > (count - 1) * size or tokens == count == 0
