"""The demo model in NF4: a mixed batch of eight adapters and the base says what PEFT says, token for token."""

import asyncio
import random
from pathlib import Path

import pytest

from server.config import Settings, default_cache_dir
from server.engine.base_model import prepare_base
from server.engine.base_progress import TerminalProgress
from tests.lora_adapters import ALL_LINEAR, write_lora
from tests.parity.oracle import Oracle
from tests.running_engine import answers, running, submit, version

TOKENS = 14
KV_BYTES_PER_TOKEN = 2 * 30 * 3 * 64 * 4
DEMO_ADAPTERS = Path(__file__).parents[2] / "server" / "demo" / "adapters"
WORDS = [
    "Write the date 2005-08-10 in words.",
    "The capital of France is Paris, and the capital of Italy is",
]


@pytest.mark.demo_model
@pytest.mark.slow
def test_mixed_batch_on_the_demo_model_equals_peft(tmp_path: Path) -> None:
    prepared = prepare_base(
        "smollm2-135m", quantization="nf4", cache_dir=default_cache_dir(), progress=TerminalProgress()
    )
    trained = sorted(path for path in DEMO_ADAPTERS.iterdir() if (path / "adapter_config.json").is_file())
    made = [
        write_lora(
            prepared.directory,
            tmp_path / f"random-{seed}",
            seed=seed,
            r=(4, 8, 16, 32)[seed % 4],
            targets=ALL_LINEAR if seed % 2 else ("q_proj", "v_proj"),
            strength=0.05,
        )
        for seed in range(8 - len(trained))
    ]
    adapters: list[Path | None] = [None, *trained, *made]
    oracle = Oracle(prepared)
    prompts = [chat_prompt(prepared.directory, words) for words in WORDS]
    wanted = {adapter: oracle.greedy(adapter, prompts, TOKENS) for adapter in adapters}

    async def serve() -> None:
        settings = Settings(
            numerics="exact",
            max_batch_tokens=128,
            max_rows=32,
            block_size=4,
            kv_cache_bytes=7 * (max(map(len, prompts)) + TOKENS) * KV_BYTES_PER_TOKEN,
        )
        async with running(settings) as engine:
            for order in range(2):
                work = [(adapter, index) for adapter in adapters for index in range(len(prompts))]
                random.Random(order).shuffle(work)
                given = await answers(
                    engine,
                    [
                        submit(prompts[index], version(adapter) if adapter else None, max_tokens=TOKENS)
                        for adapter, index in work
                    ],
                )
                for (adapter, index), got in zip(work, given, strict=True):
                    assert got.tokens == wanted[adapter][index], (adapter, index, order)
            assert engine.built.loop.scheduler.prefix_hit_tokens > 0
            assert engine.built.loop.scheduler.preemptions > 0

    asyncio.run(serve())


def chat_prompt(directory: Path, words: str) -> list[int]:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": words}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
