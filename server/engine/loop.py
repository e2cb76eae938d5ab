"""The engine's main loop: schedule -> run -> deliver, on one thread that owns the model and the device."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from server.adapters.device_memory import DeviceMemory
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.foretold import Foretold, measured
from server.adapters.loader import AdapterLoader
from server.adapters.residency import Residency
from server.engine.batch import Batch
from server.engine.constraint import TokenConstraint
from server.engine.grammar_queue import GrammarQueue
from server.engine.kv_cache import KVCache
from server.engine.messages import (
    Cancel,
    Command,
    DevicePages,
    EngineState,
    Event,
    Failed,
    Forecast,
    PromptScores,
    StepReport,
    Stop,
    Submit,
    Tier,
    Tokens,
    TokenScore,
    Unload,
)
from server.engine.row_failure import RowFailure
from server.engine.row_result import RowResult, row_results
from server.engine.runner import Runner
from server.engine.scheduler import Scheduler
from server.engine.scheduler_limits import SchedulerLimits
from server.engine.sequence import Sequence

_log = logging.getLogger(__name__)

STATE_INTERVAL = 0.25
"""Seconds between two snapshots of the engine's state, at least."""

_IDLE_POLL = 0.02
"""Seconds after which a loop that has only waiting requests looks at their timeouts again."""


class _Wake:
    """Put into the inbox when something other than a command happened."""


@dataclass(frozen=True)
class _Arrival:
    """A request as it came, and the nearest tier that had its adapter then: the loop may take it up a step later."""

    submit: Submit
    at: float
    tier: Tier | None


class EngineLoop:
    """Runs until `Stop`. `deliver` receives the events of each iteration, in order, on the loop's thread."""

    def __init__(
        self,
        runner: Runner,
        kv_cache: KVCache,
        make_loader: Callable[[Callable[[], None]], AdapterLoader],
        compile_grammar: Callable[[str], TokenConstraint],
        *,
        limits: SchedulerLimits,
        adapter_memory: DeviceMemory,
        host_budget_bytes: int,
        eviction: Callable[[], EvictionPolicy],
        eos_token_ids: frozenset[int],
        deliver: Callable[[list[Event]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._kv = kv_cache
        self._eos = eos_token_ids
        self._deliver_events = deliver
        self._clock = clock
        self._inbox: queue.SimpleQueue[Command | _Arrival | list[Foretold] | _Wake] = queue.SimpleQueue()
        self._outbox: list[Event] = []
        self._loader = make_loader(lambda: self._inbox.put(_Wake()))
        self._grammars = GrammarQueue(compile_grammar, lambda: self._inbox.put(_Wake()))
        self.residency = Residency(
            self._loader,
            memory=adapter_memory,
            host_budget_bytes=host_budget_bytes,
            policy=eviction,
            report=self._outbox.append,
            clock=clock,
        )
        self.scheduler = Scheduler(limits, kv_cache, self.residency, emit=self._outbox.append, clock=clock)
        self._stopping = threading.Event()
        self._state_sent = 0.0
        self._state_pending = True

    def send(self, command: Command) -> None:
        """Hand a command to the loop, from any thread. A cold adapter starts loading at once, beside the step."""
        if isinstance(command, Submit):
            tier = self._nearest_tier(command.adapter.digest) if command.adapter else None
            self._inbox.put(_Arrival(command, self._clock(), tier))
            if command.adapter and self.residency.is_cold(command.adapter.digest):
                self._loader.start(command.adapter)
        else:
            self._inbox.put(measured(command) if isinstance(command, Forecast) else command)

    def _nearest_tier(self, digest: str) -> Tier:
        """Where a version is nearest. Safe from any thread."""
        if self.residency.is_resident(digest):
            return "device"
        return "host" if self.residency.device.holds(digest) or self.residency.host.holds(digest) else "store"

    def run(self) -> None:
        """Serve until `Stop`; then cancel what is left."""
        while not self._stopping.is_set():
            self._receive()
            self._take_compiled()
            batch = self.scheduler.schedule()
            self._deliver()  # what was admitted, and what was refused, is known before the step and not after it
            if batch is not None:
                self._step(batch)
                self._deliver()
        for sequence in [*self.scheduler.sequences(), *self._grammars.sequences()]:
            self._cancel(sequence.id)
        self.residency.stop()
        self._deliver()
        self._loader.close()
        self._grammars.close()

    def _receive(self) -> None:
        """Take every command there is; wait for one when no row runs."""
        try:
            if not self.scheduler.running:
                waits = self.scheduler.has_work or len(self._grammars) or self._state_pending
                self._handle(self._inbox.get(timeout=_IDLE_POLL if waits else None))
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            pass

    def _handle(self, command: Command | _Arrival | list[Foretold] | _Wake) -> None:
        match command:
            case _Arrival(submit, at, tier):
                sequence = Sequence(submit, at, tier=tier)
                (self.scheduler if submit.sampling.grammar is None else self._grammars).add(sequence)
            case Cancel():
                self._cancel(command.request_id)
            case Unload():
                self.residency.unload(command.digest)
            case list():
                self.residency.foretell(command)
            case Stop():
                self._stopping.set()
            case _Wake():
                pass

    def _step(self, batch: Batch) -> None:
        """Run one batch and hand its tokens out.

        After an error each row runs again by itself, so that the one which caused it ends and its neighbours do not.
        """
        began = time.perf_counter()
        try:
            results = row_results(batch, self._runner.run(batch), self._eos)
        except torch.AcceleratorError:
            raise  # the device's state is unknown: only a new process helps
        except (RuntimeError, ValueError, IndexError) as error:
            _log.exception("a step of %d rows failed", len(batch.rows))
            if len(batch.rows) > 1:
                for row in batch.rows:
                    self._step(Batch((row,)))
            else:
                failure = RowFailure(f"the engine failed on this request: {type(error).__name__}")
                self._fail(batch.rows[0].sequence, failure)
            return
        seconds = time.perf_counter() - began
        self.scheduler.advance(batch, seconds)
        for row, result in zip(batch.rows, results, strict=True):
            self._take_result(row.sequence, result)
        decode_rows = sum(row.count == 1 for row in batch.rows)
        self._outbox.append(
            StepReport(
                seconds=seconds,
                rows=len(batch.rows),
                decode_rows=decode_rows,
                prefill_tokens=batch.tokens - decode_rows,
                adapters=batch.adapters,
            )
        )

    def _take_result(self, sequence: Sequence, result: RowResult) -> None:
        """Hand out what a row gained, and end its request where that was the last."""
        if result.prompt_scores:
            sequence.scored += len(result.prompt_scores)
            self._outbox.append(PromptScores(request_id=sequence.id, scores=result.prompt_scores))
        if result.failure is not None:
            self._fail(sequence, result.failure)
        elif result.token is not None:
            self._take_token(sequence, result.token, result.score)
        elif not sequence.pending:
            self._end(sequence, Tokens(request_id=sequence.id, token_ids=[], finish_reason="length"))

    def _take_token(self, sequence: Sequence, token: int, score: TokenScore | None) -> None:
        answered = sequence.append(token, self._eos)
        if answered and not sequence.finished and sequence.constraint is not None:
            try:
                sequence.constraint.advance(token)
            except (RuntimeError, ValueError) as error:
                failure = RowFailure(f"the grammar cannot be followed further: {error}", "invalid_value")
                self._fail(sequence, failure)
                return
        event = Tokens(
            request_id=sequence.id,
            token_ids=[token] if answered else [],
            finish_reason=sequence.finished,
            scores=[score] if answered and score is not None else [],
        )
        if sequence.finished:
            self._end(sequence, event)
        else:
            self._outbox.append(event)

    def _take_compiled(self) -> None:
        """Let the sequences wait for a row whose grammar has come; end those whose grammar cannot be, or is late."""
        for sequence, problem in self._grammars.take():
            if problem is None:
                self.scheduler.add(sequence)
            else:
                self._outbox.append(Failed(request_id=sequence.id, code="invalid_value", message=problem))
        for sequence, failed in self.scheduler.deadlines.late(self._grammars.sequences(), self._clock()):
            self._grammars.remove(sequence.id)
            self._outbox.append(failed)

    def _cancel(self, request_id: str) -> None:
        """End a request, wherever it is; an unknown one has ended already."""
        event = Tokens(request_id=request_id, token_ids=[], finish_reason="cancelled")
        sequence = self.scheduler.get(request_id)
        if sequence is not None:
            self._end(sequence, event)
        elif self._grammars.remove(request_id) is not None:
            self._outbox.append(event)

    def _fail(self, sequence: Sequence, failure: RowFailure) -> None:
        self._end(sequence, Failed(request_id=sequence.id, code=failure.code, message=failure.message))

    def _end(self, sequence: Sequence, event: Tokens | Failed) -> None:
        self.scheduler.remove(sequence)
        self._outbox.append(event)

    def _deliver(self) -> None:
        """Send what happened, with a snapshot of the state when one is due."""
        now = self._clock()
        self._state_pending = self._state_pending or bool(self._outbox) or self.scheduler.rowless > 0
        if self._state_pending and now - self._state_sent >= STATE_INTERVAL:
            self._outbox.append(self._state())
            self._state_sent, self._state_pending = now, False
        if self._outbox:
            self._deliver_events(self._outbox.copy())
            self._outbox.clear()

    def _state(self) -> EngineState:
        scheduler, pages, memory = self.scheduler, self._kv.pages, self.residency.memory
        return EngineState(
            running=scheduler.running,
            waiting=scheduler.rowless + len(self._grammars),
            kv_blocks_used=self._kv.used,
            kv_blocks_total=self._kv.used + self._kv.available,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            prefix_lookup_tokens=scheduler.prefix_lookup_tokens,
            preemptions=scheduler.preemptions,
            rows_taken_back=scheduler.rows_taken_back,
            adapter_bytes=memory.used_bytes,
            adapter_budget_bytes=memory.used_bytes + memory.free_bytes,
            pages=DevicePages(kv=pages.in_use, prefix=pages.kept, adapters=pages.adapters, total=pages.total),
            resident=self.residency.resident(),
            oldest_waiting_seconds=max(
                scheduler.oldest_waiting(self._clock()), self._grammars.oldest_waiting(self._clock())
            ),
            host_bytes=self.residency.host.used_bytes,
            host_budget_bytes=self.residency.host.budget_bytes,
            host=self.residency.host.listed(),
            waiting_adapters=[queue.adapter.name for queue in scheduler.waiting.by_age() if queue.adapter],
        )
