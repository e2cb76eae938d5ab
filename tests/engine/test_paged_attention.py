"""Attention over blocks is the attention that each sequence would see by itself."""

import math
import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AttentionInterface

from server.engine.batch import Row
from server.engine.page_layout import LayerShape
from server.engine.paged_attention import (
    ATTENTION_NAME,
    PagedKV,
    Scoring,
    paged_attention,
    plan_attention,
    register_paged_attention,
)
from server.engine.sequence import Sequence
from tests.engine.hand_made import sequence

LAYER = 3


@dataclass(frozen=True)
class Geometry:
    """The attention of a layer. Without `window` and `softcap` it is plain causal attention."""

    heads: int = 4
    kv_heads: int = 2
    dim: int = 32
    window: int | None = None
    softcap: float | None = None

    @property
    def scaling(self) -> float:
        return 0.9 / math.sqrt(self.dim)


@dataclass(eq=False)
class Text:
    """One sequence: random queries [heads, tokens, dim], keys and values [kv heads, tokens, dim], and its blocks."""

    geometry: Geometry
    length: int
    blocks: list[int]
    done: int = 0
    seen: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.geometry
        self.query = 2 * torch.randn(shape.heads, self.length, shape.dim)
        self.key = torch.randn(shape.kv_heads, self.length, shape.dim)
        self.value = torch.randn(shape.kv_heads, self.length, shape.dim)

    def row(self, count: int) -> Row:
        one: Sequence = sequence([0] * self.length)
        one.blocks = self.blocks
        return Row(one, self.done, count, False, None)

    def expected(self) -> torch.Tensor:
        """[tokens, heads, dim] by the definition of attention, head by head, in fp64."""
        shape, repeat = self.geometry, self.geometry.heads // self.geometry.kv_heads
        position = torch.arange(self.length)
        distance = position[:, None] - position
        visible = distance >= 0
        if shape.window is not None:
            visible &= distance < shape.window
        heads = []
        for head in range(shape.heads):
            query, key = self.query[head].double(), self.key[head // repeat].double()
            scores = query @ key.t() * shape.scaling
            if shape.softcap is not None:
                scores = shape.softcap * torch.tanh(scores / shape.softcap)
            weights = torch.softmax(scores.masked_fill(~visible, -math.inf), dim=-1)
            heads.append(weights @ self.value[head // repeat].double())
        return torch.stack(heads, dim=1)


class Cache:
    """A `PagedKV` of one layer, over which texts run in steps."""

    def __init__(self, geometry: Geometry, *, blocks: int, block_size: int) -> None:
        self.geometry = geometry
        self.block_size = block_size
        self.free = list(range(1, 1 + blocks))
        random.Random(blocks).shuffle(self.free)
        self.paged_kv = PagedKV()
        probe = torch.zeros(1, geometry.kv_heads, 1, geometry.dim)
        self.attend(torch.zeros(1, geometry.heads, 1, geometry.dim), probe, probe)
        self.layout = self.paged_kv.layout(block_size)
        self.memory = self.paged_kv.allocate(blocks, self.layout, torch.device("cpu"))

    def text(self, length: int) -> Text:
        count = -(-length // self.block_size)
        blocks, self.free = self.free[:count], self.free[count:]
        assert len(blocks) == count
        return Text(self.geometry, length, blocks)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        shape = self.geometry
        return self.paged_kv.attend(LAYER, query, key, value, Scoring(shape.scaling, shape.window, shape.softcap))

    def step(self, counts: Seq[tuple[Text, int]]) -> None:
        """Run the next `count` tokens of each text, packed in this order."""
        rows = [text.row(count) for text, count in counts]
        self.paged_kv.plan = plan_attention(rows, self.layout, torch.device("cpu"))
        packed = [
            torch.cat(
                [tensor[:, text.done : text.done + count] for (text, count), tensor in zip(counts, side, strict=True)],
                1,
            )
            for side in zip(*[(text.query, text.key, text.value) for text, _ in counts], strict=True)
        ]
        query, key, value = (tensor[None] for tensor in packed)
        out = self.attend(query, key, value)
        assert out.shape == (1, query.shape[2], self.geometry.heads, self.geometry.dim)
        at = 0
        for text, count in counts:
            text.seen.append(out[0, at : at + count])
            text.done += count
            at += count


def assert_as_alone(text: Text) -> None:
    error = (torch.cat(text.seen).double() - text.expected()[: text.done]).abs().max()
    assert float(error) < 1e-5


geometries = st.builds(
    lambda groups, kv_heads, dim, window, softcap: Geometry(groups * kv_heads, kv_heads, dim, window, softcap),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2]),
    st.sampled_from([32, 64, 80]),
    st.sampled_from([None, 1, 3, 8]),
    st.sampled_from([None, 2.0, 30.0]),
)


@given(
    geometry=geometries,
    lengths=st.lists(st.integers(1, 21), min_size=1, max_size=4),
    block_size=st.sampled_from([1, 3, 4, 16]),
    choose=st.randoms(use_true_random=False),
)
@settings(max_examples=80, deadline=None)
def test_texts_that_run_together_in_any_chunks_see_what_each_would_see_alone(
    geometry: Geometry, lengths: list[int], block_size: int, choose: random.Random
) -> None:
    torch.manual_seed(sum(lengths))
    cache = Cache(geometry, blocks=sum(lengths) + 3, block_size=block_size)
    texts = [cache.text(length) for length in lengths]
    while left := [text for text in texts if text.done < text.length]:
        now = choose.sample(left, choose.randint(1, len(left)))
        cache.step([(text, choose.choice([1, choose.randint(1, text.length - text.done)])) for text in now])
    for text in texts:
        assert_as_alone(text)


@pytest.mark.parametrize("chunks", [[17], [1] * 17, [8, 9], [16, 1], [1, 15, 1], [5, 5, 5, 2]])
@pytest.mark.parametrize("window", [None, 4])
def test_the_split_of_a_prompt_into_chunks_does_not_matter(chunks: list[int], window: int | None) -> None:
    torch.manual_seed(0)
    cache = Cache(Geometry(window=window), blocks=8, block_size=4)
    text = cache.text(17)
    for count in chunks:
        cache.step([(text, count)])
    assert_as_alone(text)


def test_decoding_rows_of_ragged_lengths_share_a_step_with_a_prefill() -> None:
    torch.manual_seed(0)
    cache = Cache(Geometry(), blocks=40, block_size=4)
    texts = [cache.text(length) for length in (2, 30, 9, 17)]
    cache.step([(text, text.length - 1) for text in texts])
    late = cache.text(7)
    cache.step([(texts[0], 1), (texts[1], 1), (late, 7), (texts[2], 1), (texts[3], 1)])
    for text in (*texts, late):
        assert_as_alone(text)


def test_a_prefix_in_shared_blocks_serves_a_second_text() -> None:
    torch.manual_seed(0)
    cache = Cache(Geometry(), blocks=10, block_size=4)
    first, second = cache.text(12), cache.text(12)
    for mine, theirs in zip((second.key, second.value), (first.key, first.value), strict=True):
        mine[:, :8] = theirs[:, :8]
    cache.step([(first, 12)])
    second.blocks = first.blocks[:2] + second.blocks[2:]
    second.done = 8
    second.seen.append(second.expected()[:8])
    cache.step([(second, 4)])
    assert_as_alone(second)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_what_other_and_earlier_sequences_left_in_the_cache_is_never_seen(poison: float, softcap: float | None) -> None:
    torch.manual_seed(0)
    cache = Cache(Geometry(softcap=softcap), blocks=12, block_size=4)
    bad = cache.text(16)
    for tensor in (bad.key, bad.value):
        tensor.fill_(poison)
    cache.step([(bad, 16)])
    used_before = Text(cache.geometry, 3, bad.blocks[:1])
    texts = [used_before, cache.text(9), cache.text(2)]
    bad.done = 15
    cache.step([(text, text.length - 1) for text in texts])
    cache.step([(text, 1) for text in (bad, *texts)])
    for text in texts:
        assert_as_alone(text)


def test_keys_and_values_of_a_step_go_to_the_slots_of_their_positions_and_nowhere_else() -> None:
    cache = Cache(Geometry(), blocks=6, block_size=4)
    text = cache.text(10)
    before = cache.memory.clone()
    cache.step([(text, 10)])
    keys_and_values = cache.memory.view(torch.float32).view(7, 2, 4, -1)
    for position in range(10):
        page, offset = text.blocks[position // 4], position % 4
        for side, tensor in enumerate((text.key, text.value)):
            assert torch.equal(keys_and_values[page, side, offset], tensor[:, position].flatten())
            keys_and_values[page, side, offset] = 0
    assert torch.equal(cache.memory, before)


def test_each_layer_tells_its_shape_and_has_a_cache_of_its_own() -> None:
    paged_kv = PagedKV()
    for layer, kv_heads, dtype in ((0, 2, torch.float32), (1, 1, torch.bfloat16)):
        query, key = torch.zeros(1, 4, 3, 8, dtype=dtype), torch.zeros(1, kv_heads, 3, 8, dtype=dtype)
        out = paged_kv.attend(layer, query, key, key, Scoring(1.0))
        assert out.shape == (1, 3, 4, 8)
    assert paged_kv.shapes == {0: LayerShape(2, 8, torch.float32), 1: LayerShape(1, 8, torch.bfloat16)}
    assert paged_kv.layout(16).page_bytes == 16 * 2 * (2 * 8 * 4 + 1 * 8 * 2)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("window", [None, 4])
def test_before_there_is_a_cache_a_batch_attends_over_itself(window: int | None, softcap: float | None) -> None:
    torch.manual_seed(0)
    text = Text(Geometry(window=window, softcap=softcap), 12, [])
    paged_kv, shape = PagedKV(), text.geometry
    out = paged_kv.attend(
        LAYER,
        text.query[None],
        text.key[None],
        text.value[None],
        Scoring(shape.scaling, shape.window, shape.softcap),
    )
    text.seen, text.done = [out[0]], text.length
    assert_as_alone(text)


def test_transformers_calls_the_cache_of_the_module_with_the_default_scale() -> None:
    register_paged_attention()
    assert AttentionInterface()[ATTENTION_NAME] is paged_attention
    module, paged_kv = nn.Module(), PagedKV()
    module.paged_kv, module.layer_idx = paged_kv, LAYER  # type: ignore[assignment]
    text = Text(Geometry(), 5, [])
    states = (text.query[None], text.key[None], text.value[None])
    out, weights = paged_attention(module, *states, None)
    assert weights is None
    scaled, _ = paged_attention(module, *states, None, scaling=text.geometry.dim**-0.5)
    assert torch.equal(out, scaled)
    assert set(paged_kv.shapes) == {LAYER}
