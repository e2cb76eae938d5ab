"""What following a grammar costs a step, with the demo model's 49,152 tokens."""

import asyncio
import random
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from server.api.constraints.grammar import json_part, serialised
from server.config import Settings, default_cache_dir
from server.engine.base_model import prepare_base
from server.engine.base_progress import TerminalProgress
from server.engine.grammar_constraint import GrammarCompiler
from server.engine.messages import Report, StepReport
from server.engine.sampling import sample
from server.engine.sequence import Sequence
from tests.running_engine import answers, running, submit

ROWS = 16
TOKENS = 24
VOCABULARY = 49_152
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 60, "maxLength": 400},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "code": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["street", "code"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
}
GRAMMAR = serialised([json_part(SCHEMA)])

pytestmark = [pytest.mark.soak, pytest.mark.demo_model]


def report(line: str) -> None:
    print(f"\n{line}", end="")  # noqa: T201


@pytest.fixture(scope="module")
def directory() -> Path:
    return prepare_base(
        "smollm2-135m", quantization="nf4", cache_dir=default_cache_dir(), progress=TerminalProgress()
    ).directory


def test_the_cost_of_a_mask(directory: Path) -> None:
    compiler = GrammarCompiler(directory, vocab_size=VOCABULARY, eos_token_ids=(2,))
    seconds = {}
    for kind in ("tokenizer and grammar", "known grammar"):
        began = time.perf_counter()
        compiler.compile(GRAMMAR)
        seconds[kind] = time.perf_counter() - began
    rng = random.Random(0)
    masks, advances = list[float](), list[float]()
    for _ in range(40):
        constraint = compiler.compile(GRAMMAR)
        while True:
            began = time.perf_counter()
            mask = constraint.mask()
            masks.append(time.perf_counter() - began)
            token = rng.choice(mask.nonzero().flatten().tolist())
            if token == 2:
                break
            began = time.perf_counter()
            constraint.advance(token)
            advances.append(time.perf_counter() - began)
    masks.sort()
    nearly_all = masks[-len(masks) // 100]
    report(f"compile: {seconds}")
    report(f"mask: {len(masks)}, median {masks[len(masks) // 2] * 1e6:.0f} us, 99 % {nearly_all * 1e6:.0f} us")
    report(f"advance: median {statistics.median(advances) * 1e6:.0f} us")
    assert nearly_all < 0.01


def test_the_cost_of_choosing_tokens(directory: Path) -> None:
    """From logits to tokens, with none, half or all of sixteen rows bound; the model's own work is left out."""
    compiler = GrammarCompiler(directory, vocab_size=VOCABULARY, eos_token_ids=(2,))
    logits = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    for bound in (0, ROWS // 2, ROWS):
        seconds = []
        sequences = [Sequence(submit([1], temperature=1.0, seed=row), 0.0) for row in range(ROWS)]
        for sequence in sequences[:bound]:
            sequence.constraint = compiler.compile(GRAMMAR)
        for _ in range(80):
            began = time.perf_counter()
            for sequence, token in zip(sequences, sample(logits, sequences, frozenset({2})), strict=True):
                assert isinstance(token, int)
                if sequence.constraint is not None:
                    sequence.constraint.advance(token)
            seconds.append(time.perf_counter() - began)
        report(f"{bound} of {ROWS} rows bound: {statistics.median(seconds) * 1000:.2f} ms to choose their tokens")


def test_the_cost_of_a_step(directory: Path) -> None:
    """Medians of decoding steps of sixteen rows, of which none, half or all follow a schema."""
    medians: dict[int, list[float]] = {0: [], ROWS // 2: [], ROWS: []}
    reports: list[Report] = []

    async def measure() -> None:
        async with running(Settings(max_rows=ROWS), reports) as engine:
            for seed in range(2):
                for bound, found in medians.items():
                    reports.clear()
                    requests = [
                        submit(
                            range(1000 + row, 1016 + row),
                            max_tokens=TOKENS,
                            temperature=1.0,
                            seed=seed * ROWS + row,
                            grammar=GRAMMAR if row < bound else None,
                        )
                        for row in range(ROWS)
                    ]
                    await answers(engine, requests)
                    found.append(
                        statistics.median(
                            step.seconds
                            for step in reports
                            if isinstance(step, StepReport) and step.decode_rows == step.rows == ROWS
                        )
                    )

    asyncio.run(measure())
    best = {bound: min(found) for bound, found in medians.items()}
    for bound, seconds in best.items():
        report(f"{bound} of {ROWS} rows bound: {seconds * 1000:.1f} ms a step")
    assert best[ROWS] < 1.25 * best[0]
