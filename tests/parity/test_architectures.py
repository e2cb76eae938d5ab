"""A mixed batch of eight adapters and the base says what PEFT says one adapter at a time, token for token.

Numerics: exact. Chunked prefill, prefix reuse and preemption all happen while it runs, in several arrival orders.
"""

import asyncio
import random
from pathlib import Path

import pytest
import torch

from server.config import Settings
from server.engine.base_model import prepare_base
from server.engine.messages import Submit
from tests.lora_adapters import ALL_LINEAR, PHI3_LINEAR, write_lora
from tests.parity.oracle import Oracle
from tests.running_engine import answers, running, submit, version
from tests.tiny_models import CONFIGS, VOCABULARY, write_tiny_model

TOKENS = 20
BLOCK = 8


def write_adapters(kind: str, base: Path, directory: Path) -> list[Path]:
    """Eight adapters that differ in rank, targets, scaling, patterns and dtype."""
    fused = kind == "phi3"
    every = PHI3_LINEAR if fused else ALL_LINEAR
    attention = ("qkv_proj",) if fused else ("q_proj", "v_proj")
    one, other = ("qkv_proj", "down_proj") if fused else ("q_proj", "gate_proj")
    return [
        write_lora(base, directory / "plain", seed=1, r=8, targets=every),
        write_lora(base, directory / "attention", seed=2, r=4, targets=attention, strength=0.3),
        write_lora(base, directory / "rslora", seed=3, r=16, targets=every, use_rslora=True, strength=0.05),
        write_lora(base, directory / "half", seed=4, r=8, targets=every, dtype=torch.float16),
        write_lora(base, directory / "bfloat", seed=5, r=5, targets=every, dtype=torch.bfloat16),
        write_lora(
            base,
            directory / "patterns",
            seed=6,
            r=8,
            targets=every,
            rank_pattern={one: 3, rf"layers\.1\..*{other}": 12},
            alpha_pattern={other: 40},
        ),
        write_lora(base, directory / "layers", seed=7, r=8, targets=every, layers_to_transform=[0, 2], strength=0.2),
        write_lora(base, directory / "regex", seed=8, r=2, targets=rf".*layers\.[12]\..*({one}|{other})", strength=0.3),
    ]


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_mixed_batch_equals_peft(kind: str, quantization: str, tmp_path: Path) -> None:
    base = write_tiny_model(kind, tmp_path / "base")
    adapters: list[Path | None] = [None, *write_adapters(kind, base, tmp_path / "adapters")]
    prepared = prepare_base(str(base), quantization=quantization, cache_dir=tmp_path / "cache")  # type: ignore[arg-type]
    choose = random.Random(kind)
    shared = [choose.randrange(VOCABULARY) for _ in range(2 * BLOCK)]
    prompts = [shared + [choose.randrange(VOCABULARY) for _ in range(length)] for length in (3, 29)]
    oracle = Oracle(prepared)
    wanted = {adapter: oracle.greedy(adapter, prompts, TOKENS) for adapter in adapters}

    async def serve() -> None:
        context = len(prompts[1]) + TOKENS
        settings = Settings(
            base=str(base),
            quantization=quantization,
            numerics="exact",
            cache_dir=tmp_path / "cache",
            block_size=BLOCK,
            max_batch_tokens=24,
            max_rows=16,
            kv_cache_bytes=1,
        )
        per_token = _kv_bytes_per_token(base)
        settings = settings.model_copy(update={"kv_cache_bytes": 5 * context * per_token})
        async with running(settings) as engine:
            for round_number in range(3):
                requests: list[tuple[Path | None, int, Submit]] = [
                    (adapter, index, submit(prompt, version(adapter) if adapter else None, max_tokens=TOKENS))
                    for adapter in adapters
                    for index, prompt in enumerate(prompts)
                ]
                random.Random(round_number).shuffle(requests)
                given = await answers(engine, [request for _, _, request in requests])
                for (adapter, index, _), got in zip(requests, given, strict=True):
                    assert got.failed is None
                    assert got.started is not None
                    assert got.started.digest == (version(adapter).digest if adapter else None)
                    assert got.tokens == wanted[adapter][index], (adapter, index, round_number)
            scheduler = engine.built.loop.scheduler
            assert scheduler.preemptions > 0
            assert scheduler.prefix_hit_tokens > 0

    different = {tuple(tokens) for per_prompt in wanted.values() for tokens in per_prompt}
    assert len(different) == 2 * len(adapters), "the adapters must differ for this test to mean anything"
    asyncio.run(serve())


def _kv_bytes_per_token(base: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size: int = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    return size
