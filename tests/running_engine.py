"""The real engine on a thread, driven by requests that tests describe briefly."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_store.digest import directory_digest
from server.config import Settings
from server.engine.in_process import InProcessEngine
from server.engine.interface import Engine
from server.engine.messages import (
    AdapterVersion,
    Failed,
    PromptScores,
    Report,
    SamplingParams,
    Started,
    Submit,
    Tokens,
    TokenScore,
)


@dataclass
class Answer:
    """All events of one request, gathered."""

    started: Started | None = None
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    failed: Failed | None = None
    scores: list[TokenScore] = field(default_factory=list)
    prompt_scores: list[TokenScore | None] = field(default_factory=list)


def version(directory: Path, name: str | None = None) -> AdapterVersion:
    """The version that lies in a directory, as the API process would hand it over."""
    return AdapterVersion(name=name or directory.name, digest=directory_digest(directory), directory=str(directory))


_ids = itertools.count()


def submit(
    prompt: Sequence[int], adapter: AdapterVersion | None = None, *, fallback: Any = "base", **sampling: Any
) -> Submit:
    """A request; greedy, 8 tokens and without stopping unless said otherwise."""
    params = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | sampling
    return Submit(
        request_id=f"r{next(_ids)}",
        prompt=list(prompt),
        adapter=adapter,
        fallback=fallback,
        sampling=SamplingParams(**params),
    )


async def answer(engine: Engine, request: Submit) -> Answer:
    """Run one request to its end."""
    result = Answer()
    async for event in engine.submit(request):
        match event:
            case Started():
                result.started = event
            case Tokens():
                result.tokens += event.token_ids
                result.scores += event.scores
                result.finish_reason = event.finish_reason or result.finish_reason
            case PromptScores():
                result.prompt_scores += event.scores
            case Failed():
                result.failed = event
    return result


async def answers(engine: Engine, requests: Sequence[Submit]) -> list[Answer]:
    """Run requests at once; answers in their order."""
    return list(await asyncio.gather(*(answer(engine, request) for request in requests)))


@asynccontextmanager
async def running(settings: Settings, reports: list[Report] | None = None) -> AsyncIterator[InProcessEngine]:
    """An engine that is stopped at the end, and that must not have kept any row, block or pin."""
    engine = InProcessEngine(settings)
    engine.observe((reports if reports is not None else []).append)
    await engine.start()
    loop = engine.built.loop
    try:
        yield engine
    finally:
        await engine.stop()
        loop.scheduler.check_empty()
