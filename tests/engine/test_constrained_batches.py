"""Rows that follow a grammar beside rows that are free, in one batch of a real engine."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from server.api.constraints.grammar import json_part, regex_part, serialised
from server.config import Settings
from server.engine.in_process import InProcessEngine
from server.engine.messages import Report, StepReport, Submit
from tests.engine.random_schemas import Schema, random_schema
from tests.lora_adapters import write_lora
from tests.running_engine import Answer, answers, running, submit, version
from tests.tiny_models import tiny_tokenizer, write_tiny_model

MAX_TOKENS = 480


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture
def settings(base: Path, tmp_path: Path) -> Settings:
    return Settings(base=str(base), cache_dir=tmp_path, kv_cache_bytes=8 << 20, threads=1, max_rows=16)


def free_requests(adapters: Sequence[Any], count: int) -> list[Submit]:
    """Requests without a grammar, for the base and for each adapter in turn.

    Greedy: the last bit of a logit depends on how many rows a batch has, and a draw that falls just between two tokens
    turns on it.
    """
    return [submit(range(index, index + 8), adapters[index % len(adapters)], max_tokens=60) for index in range(count)]


def bound_requests(adapters: Sequence[Any], schemas: Sequence[Schema]) -> list[Submit]:
    return [
        submit(
            range(index % 50, index % 50 + 6),
            adapters[index % len(adapters)],
            max_tokens=MAX_TOKENS,
            temperature=1.0 if index % 4 else 0.0,
            seed=index,
            grammar=serialised([json_part(schema)]),
        )
        for index, schema in enumerate(schemas)
    ]


def mixed(first: list[Submit], second: list[Submit], seed: int) -> list[Submit]:
    requests = [*first, *second]
    random.Random(seed).shuffle(requests)
    return requests


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_every_schema_is_kept_and_no_free_row_is_changed(
    tmp_path: Path, base: Path, settings: Settings, count: int
) -> None:
    adapters = [None, *(version(write_lora(base, tmp_path / f"a{seed}", seed=seed)) for seed in range(2))]
    schemas = [random_schema(random.Random(seed), depth=2) for seed in range(count)]
    bound, free = bound_requests(adapters, schemas), free_requests(adapters, count // 2)
    reports: list[Report] = []

    async def scenario(engine: InProcessEngine) -> None:
        alone = await answers(engine, free)
        again = [renamed(request) for request in free]
        reports.clear()
        requests = mixed(bound, again, seed=count)
        given = dict(zip((request.request_id for request in requests), await answers(engine, requests), strict=True))
        for request, schema in zip(bound, schemas, strict=True):
            check(given[request.request_id], schema)
        for request, expected in zip(again, alone, strict=True):
            assert given[request.request_id].tokens == expected.tokens

    # The default rounds activations, so that a row's company may turn a choice between two tokens whose scores differ
    # by 3e-4, as one does here. In fp32 the margins, of 1.7e-4 and more, decide alone.
    exact = settings.model_copy(update={"numerics": "exact"})

    async def inside() -> None:
        async with running(exact, reports) as engine:
            await scenario(engine)

    asyncio.run(inside())
    assert max(report.rows for report in reports if isinstance(report, StepReport)) == settings.max_rows


def renamed(request: Submit) -> Submit:
    sampling = request.sampling
    fields = {name: getattr(sampling, name) for name in sampling.__struct_fields__}
    return submit(request.prompt, request.adapter, fallback=request.fallback, **fields)


def check(answer: Answer, schema: Schema) -> None:
    text = str(tiny_tokenizer().decode(answer.tokens))
    assert (answer.failed, answer.finish_reason) == (None, "stop"), text
    jsonschema_rs.Draft202012Validator(schema).validate(json.loads(text))


def test_a_grammar_that_cannot_be_used_ends_its_request_alone(settings: Settings) -> None:
    async def inside() -> None:
        async with running(settings) as engine:
            bad = submit([1, 2], grammar='{"grammars":[{"json_schema":{"type":"strin"}}]}')
            good = submit([1, 2], grammar=serialised([regex_part("ab{3}")]), max_tokens=10)
            refused, kept, free = await answers(engine, [bad, good, submit([1, 2])])
            assert refused.failed is not None
            assert refused.failed.code == "invalid_value"
            assert "Invalid type: strin" in refused.failed.message
            assert (tiny_tokenizer().decode(kept.tokens), kept.finish_reason) == ("abbb", "stop")
            assert len(free.tokens) == 8

    asyncio.run(inside())
