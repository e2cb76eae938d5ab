"""An engine that says what a test wants, when it wants it, and notes what was asked of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.engine.interface import EngineStatus
from server.engine.messages import (
    Failed,
    FinishReason,
    Forecast,
    ModelInfo,
    PromptScores,
    Report,
    RequestEvent,
    Started,
    Submit,
    Tokens,
    TokenScore,
)
from server.errors import EngineUnavailable
from tests.adapters_store.hand_made import BASE


@dataclass(frozen=True)
class Pause:
    """Wait before the next event."""

    seconds: float


@dataclass(frozen=True)
class Wait:
    """Wait until the test sets the event."""

    until: asyncio.Event


Step = RequestEvent | Pause | Wait
Script = Callable[[Submit], Sequence[Step]]


def model_info(directory: Path, **fields: Any) -> ModelInfo:
    """A base of the shape that hand-made adapters fit."""
    known: dict[str, Any] = {
        "name": BASE.name,
        "base_name": BASE.name,
        "architecture": BASE.architecture,
        "directory": str(directory),
        "device": "cpu",
        "quantization": "none",
        "numerics": "exact",
        "kernels": "reference",
        "vocab_size": 360,
        "max_model_len": 128,
        "eos_token_ids": (2,),
        "kv_blocks": 64,
        "block_size": 16,
        "max_rows": 4,
        "adapter_budget_bytes": 1 << 20,
        "resident_bytes": 1 << 20,
        "modules": dict(BASE.modules),
    }
    return ModelInfo(**(known | fields))


class ScriptedGeneration:
    """Plays one script. After `cancel` it waits for ever, as an engine may."""

    def __init__(self, steps: Sequence[Step], on_cancel: Callable[[], None]) -> None:
        self._steps = iter(steps)
        self._on_cancel = on_cancel
        self._cancelled = False
        self.ended = False

    def __aiter__(self) -> AsyncIterator[RequestEvent]:
        return self

    async def __anext__(self) -> RequestEvent:
        await asyncio.sleep(0)
        if self._cancelled:
            await asyncio.Event().wait()
        for step in self._steps:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Wait):
                await step.until.wait()
            else:
                self.ended = isinstance(step, Failed) or (isinstance(step, Tokens) and step.finish_reason is not None)
                return step
        raise StopAsyncIteration

    def cancel(self) -> None:
        if not self.ended and not self._cancelled:
            self._cancelled = True
            self._on_cancel()


class ScriptedEngine:
    """`script` answers every request; `gate`, where given, is what `start` waits for."""

    def __init__(
        self,
        info: ModelInfo,
        script: Script,
        *,
        gate: asyncio.Event | None = None,
        start_error: Exception | None = None,
    ) -> None:
        self.script = script
        self.status: EngineStatus = "starting"
        self.restarts = 0
        self.submitted: list[Submit] = []
        self.cancelled: list[str] = []
        self.unloaded: list[str] = []
        self.forecasts: list[Forecast] = []
        self.generations: list[ScriptedGeneration] = []
        self._info = info
        self._gate = gate
        self._start_error = start_error
        self._observer: Callable[[Report], None] = lambda report: None

    @property
    def info(self) -> ModelInfo:
        if self.status == "starting":
            raise EngineUnavailable("not started")
        return self._info

    async def start(self) -> None:
        if self._gate is not None:
            await self._gate.wait()
        if self._start_error is not None:
            raise self._start_error
        self.status = "ready"

    async def stop(self) -> None:
        self.status = "stopped"

    def submit(self, request: Submit) -> ScriptedGeneration:
        if self.status != "ready":
            raise EngineUnavailable(f"the engine is {self.status}")
        self.submitted.append(request)
        generation = ScriptedGeneration(
            self.script(request), on_cancel=lambda: self.cancelled.append(request.request_id)
        )
        self.generations.append(generation)
        return generation

    def unload(self, digest: str) -> None:
        self.unloaded.append(digest)

    def foretell(self, forecast: Forecast) -> None:
        self.forecasts.append(forecast)

    def observe(self, observer: Callable[[Report], None]) -> None:
        self._observer = observer

    def report(self, report: Report) -> None:
        """Send a report, as the engine would."""
        self._observer(report)


def started(request: Submit, **fields: Any) -> Started:
    """The request runs on what it asked for."""
    digest = request.adapter.digest if request.adapter is not None else None
    return Started(**({"request_id": request.request_id, "digest": digest} | fields))


def tokens(request: Submit, ids: Sequence[int], finish_reason: FinishReason | None = None) -> Tokens:
    """New tokens of a request."""
    return Tokens(request_id=request.request_id, token_ids=list(ids), finish_reason=finish_reason)


def saying(ids: Sequence[int], finish_reason: FinishReason = "stop", **fields: Any) -> Script:
    """Every request gets these tokens, one an event, and then its end."""

    def script(request: Submit) -> list[Step]:
        return [
            started(request, **fields),
            *(tokens(request, [token_id]) for token_id in ids),
            tokens(request, [], finish_reason),
        ]

    return script


def scored(token_id: int, logprob: float = -0.5, top: Sequence[tuple[int, float]] = ()) -> TokenScore:
    """The score of a token."""
    return TokenScore(token_id=token_id, logprob=logprob, top=list(top))


def saying_with_scores(
    scores: Sequence[TokenScore], prompt: Sequence[TokenScore | None] = (), finish_reason: FinishReason = "stop"
) -> Script:
    """Every request gets these tokens with their scores, one an event, after those of its prompt."""

    def script(request: Submit) -> list[Step]:
        return [
            started(request),
            *([PromptScores(request_id=request.request_id, scores=list(prompt))] if prompt else []),
            *(Tokens(request_id=request.request_id, token_ids=[s.token_id], scores=[s]) for s in scores),
            tokens(request, [], finish_reason),
        ]

    return script
