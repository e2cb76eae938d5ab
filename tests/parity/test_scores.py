"""Scores of prompts and answers are the oracle's log-softmax, for the base and for adapters mixed in one batch."""

import asyncio
import random
from pathlib import Path

import pytest
import torch

from server.config import Settings, default_cache_dir
from server.engine.base_model import PreparedBase, prepare_base
from server.engine.base_progress import TerminalProgress
from server.engine.messages import TokenScore
from tests.lora_adapters import write_lora
from tests.parity.oracle import Oracle
from tests.running_engine import Answer, answers, running, submit, version
from tests.tiny_models import VOCABULARY, write_tiny_model

TOLERANCE = 2e-4
"""Of a log-probability, absolute: fp32 sums in another order."""

TOKENS = 12
TOP = 4


def check_scores(scores: list[TokenScore | None], tokens: list[int], expected: torch.Tensor, top: int) -> None:
    """`expected` [tokens, vocabulary] holds the log-softmax from which each token was scored."""
    for score, token, row in zip(scores, tokens, expected, strict=True):
        assert score is not None
        assert score.token_id == token
        assert score.logprob == pytest.approx(float(row[token]), abs=TOLERANCE)
        values = [value for _, value in score.top]
        assert values == pytest.approx(row.topk(top).values.tolist(), abs=TOLERANCE)
        assert values == pytest.approx([float(row[token]) for token, _ in score.top], abs=TOLERANCE)


def check_answer(got: Answer, prompt: list[int], log_probabilities: torch.Tensor) -> None:
    assert got.failed is None
    assert got.prompt_scores[0] is None
    check_scores(got.prompt_scores[1:], prompt[1:], log_probabilities[: len(prompt) - 1], TOP)
    check_scores([*got.scores], got.tokens, log_probabilities[len(prompt) - 1 : -1], TOP)


async def scored_answers(settings: Settings, work: list[tuple[Path | None, list[int]]], *, tight: bool) -> list[Answer]:
    """Everything at once, each prompt twice: with scores and, so that prefixes are cached, without before."""
    async with running(settings) as engine:
        versions = [version(adapter) if adapter else None for adapter, _ in work]
        plain = [submit(prompt, adapter) for (_, prompt), adapter in zip(work, versions, strict=True)]
        await answers(engine, plain)
        scored = [
            submit(prompt, adapter, max_tokens=TOKENS, logprobs=TOP, prompt_logprobs=TOP, repetition_penalty=1.3)
            for (_, prompt), adapter in zip(work, versions, strict=True)
        ]
        given = await answers(engine, scored)
        assert engine.built.loop.scheduler.preemptions > 0 or not tight
        return given


def check(prepared: PreparedBase, work: list[tuple[Path | None, list[int]]], given: list[Answer]) -> None:
    oracle = Oracle(prepared)
    for (adapter, prompt), got in zip(work, given, strict=True):
        check_answer(got, prompt, oracle.log_probabilities(adapter, prompt + got.tokens))


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_scores_in_a_mixed_batch_are_the_oracles(kind: str, tmp_path: Path) -> None:
    base = write_tiny_model(kind, tmp_path / "base")
    prepared = prepare_base(str(base), quantization="nf4", cache_dir=tmp_path / "cache")
    adapters = [None, *(write_lora(base, tmp_path / f"{seed}", seed=seed, r=4 * seed) for seed in (1, 2, 3))]
    choose = random.Random(kind)
    work = [
        (adapter, [choose.randrange(VOCABULARY) for _ in range(length)]) for adapter in adapters for length in (37, 9)
    ]
    settings = Settings(
        base=str(base),
        numerics="exact",
        cache_dir=tmp_path / "cache",
        block_size=8,
        max_batch_tokens=24,
        kv_cache_bytes=1 << 18,
    )
    blocks_of_two = 2 * 7 * 8 * 3 * 2 * 2 * 16 * 4
    settings = settings.model_copy(update={"kv_cache_bytes": blocks_of_two})
    check(prepared, work, asyncio.run(scored_answers(settings, work, tight=True)))


@pytest.mark.demo_model
@pytest.mark.slow
def test_scores_on_the_demo_model_are_the_oracles(tmp_path: Path) -> None:
    prepared = prepare_base(
        "smollm2-135m", quantization="nf4", cache_dir=default_cache_dir(), progress=TerminalProgress()
    )
    adapters = [None, write_lora(prepared.directory, tmp_path / "random", seed=1, r=8, strength=0.02)]
    choose = random.Random(1)
    work = [(adapter, [choose.randrange(40_000) for _ in range(24)]) for adapter in adapters]
    settings = Settings(numerics="exact", max_batch_tokens=16)
    check(prepared, work, asyncio.run(scored_answers(settings, work, tight=False)))
