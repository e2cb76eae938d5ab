"""Shadow traffic: copies of answered requests, run on another adapter for the metrics alone.

A copy never stands in the way of an answer:

- It is made when the answer is complete, and waits in a short backlog until nobody has waited for an answer for a
  moment. Then idle rows are all there is to take.
- The moment a request is accepted, before the engine hears of it, copies are cancelled. One waits again.
- It runs only where its adapter fits the device beside those that are in use.

So what an answer can lose to a copy is the rest of the one step that runs when it arrives. An operator whose device
has rows to spare may let some copies run beside answers (`beside`).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from server.api.generation.admission import Admission
from server.api.generation.attempt import Attempt
from server.api.generation.choice_text import ChoiceText
from server.api.metrics.task_metrics import ShadowOutcome, TaskMetrics
from server.api.routing.adapter_demand import AdapterDemand
from server.api.routing.model_names import Target
from server.engine.interface import Engine, Generation
from server.engine.messages import EngineState, Failed, Tokens
from server.errors import SwitchyardError

logger = logging.getLogger(__name__)

MAX_BACKLOG: Final = 64
MAX_AGE_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 0.05
"""How long there must be room before copies begin: a client that asks again at once finds the engine idle."""


@dataclass(frozen=True)
class RequestCopy:
    """A copy of one answered request of a task, for a shadow that its rule calls `name`.

    `answer` is the text that the client got, None where two texts say nothing about each other, since chance chose
    them. `prepare` writes the prompt as the shadow wants it.
    """

    task: str
    name: str
    target: Target
    prepare: Callable[[], Awaitable[Attempt]]
    answer: str | None = None


class _Run:
    """A copy on its way: first prepared, then a generation."""

    def __init__(self, copy: RequestCopy, offered: float, began: float) -> None:
        self.copy = copy
        self.offered = offered
        self.began = began
        self.generation: Generation | None = None
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """The engine hears of it before anything that is submitted from now on."""
        if self.generation is not None:
            self.generation.cancel()
        if self.task is not None:
            self.task.cancel()


class Shadowing:
    """Runs copies while there is room. Used from one event loop.

    `rows` is how many the engine has, `beside` how many of them copies may take while answers are on their way.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        demand: AdapterDemand,
        metrics: TaskMetrics,
        state: Callable[[], EngineState | None],
        *,
        rows: int,
        beside: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._demand = demand
        self._metrics = metrics
        self._state = state
        self._rows = rows
        self._beside = beside
        self._clock = clock
        self._backlog: deque[tuple[RequestCopy, float]] = deque()
        self._running: list[_Run] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        admission.watch = self.adjust

    def offer(self, copy: RequestCopy) -> None:
        """Run a copy as soon as there is room, or drop it when there is none for long."""
        if self._closed:
            return
        self._backlog.append((copy, self._clock()))
        while len(self._backlog) > MAX_BACKLOG:
            self._drop(self._backlog.popleft()[0])
        self.adjust()

    def adjust(self) -> None:
        """A request has come or gone: make room for answers, the youngest copy first, or start copies soon."""
        if not self._backlog and not self._running:
            return
        spare = self._spare()
        while len(self._running) > spare:
            run = self._running.pop()
            run.cancel()
            self._backlog.appendleft((run.copy, run.offered))
        if not self._backlog or len(self._running) >= spare:
            self._stop_timer()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._begin)

    def _begin(self) -> None:
        """Start copies while there is room."""
        self._stop_timer()
        spare = self._spare()
        while self._backlog and len(self._running) < spare:
            copy, offered = self._backlog.popleft()
            if self._clock() - offered > MAX_AGE_SECONDS or not self._fits(copy.target):
                self._drop(copy)
            else:
                self._start(copy, offered)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Drop all copies, for good."""
        self._closed = True
        self._stop_timer()
        for copy, _ in self._backlog:
            self._drop(copy)
        self._backlog.clear()
        running, self._running = self._running, []
        for run in running:
            run.cancel()
            self._drop(run.copy)
        await asyncio.gather(*(run.task for run in running if run.task is not None), return_exceptions=True)

    def _spare(self) -> int:
        """How many copies may run now."""
        if self._closed:
            return 0
        if self._admission.inside == 0:
            return self._rows
        state = self._state()
        if state is None or state.waiting:
            return 0
        return max(0, min(self._beside, self._rows - self._admission.inside))

    def _fits(self, target: Target) -> bool:
        """Whether the adapter has a place beside all that are in use, those of other copies included.

        As of the engine's last report.
        """
        if target.digest is None:
            return True
        state = self._state()
        if state is None:
            return False
        demand = self._demand.now(state.adapter_budget_bytes)
        wanted = {run.copy.target.digest: run.copy.target for run in self._running} | {target.digest: target}
        size = sum(self._demand.size_of(wanted_target) for wanted_target in wanted.values())
        return demand.filled_beside({digest for digest in wanted if digest is not None}, size) <= 1.0

    def _start(self, copy: RequestCopy, offered: float) -> None:
        if copy.target.digest is not None:
            self._demand.mirrored(copy.target.digest)
        run = _Run(copy, offered, self._clock())
        self._running.append(run)
        run.task = asyncio.create_task(self._follow(run))

    async def _follow(self, run: _Run) -> None:
        """Run a copy to its end. A cancelled one was taken out of `running` by whoever cancelled it."""
        copy = run.copy
        try:
            prepared = await copy.prepare()
            run.generation = self._engine.submit(prepared.command)
            outcome, text = await _read(run.generation, prepared.text)
        except SwitchyardError as error:
            logger.debug("shadow %s of task %s failed: %s", copy.name, copy.task, error.message)
            outcome = "failed"
        except Exception:
            logger.exception("shadow %s of task %s failed", copy.name, copy.task)
            outcome = "failed"
        if outcome != "failed":
            seconds, tokens = self._clock() - run.began, prepared.text.token_count
            same = None if copy.answer is None else text == copy.answer
            self._metrics.shadow_answered(copy.task, copy.name, seconds, tokens, same=same)
        self._end(run, outcome)

    def _end(self, run: _Run, outcome: ShadowOutcome) -> None:
        if run not in self._running:
            return
        self._running.remove(run)
        self._metrics.shadow_ended(run.copy.task, run.copy.name, outcome)
        self._begin()

    def _drop(self, copy: RequestCopy) -> None:
        self._metrics.shadow_ended(copy.task, copy.name, "dropped")


async def _read(generation: Generation, text: ChoiceText) -> tuple[ShadowOutcome, str]:
    """Read a generation to its end, or to its stop string."""
    parts: list[str] = []
    try:
        async for event in generation:
            if not isinstance(event, Tokens):
                if isinstance(event, Failed):
                    break
                continue
            if event.finish_reason == "cancelled":
                break
            piece = text.push(event.token_ids, event.scores, last=event.finish_reason is not None)
            if piece is not None:
                parts.append(piece.text)
            if text.stop is not None:
                return "stop", "".join(parts)
            if event.finish_reason is not None:
                return event.finish_reason, "".join(parts)
    finally:
        generation.cancel()
    return "failed", ""
