"""The real scheduler, residency and block book-keeping under a clock that the test moves; no model."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from server.adapters.device_memory import DeviceMemory
from server.adapters.residency import Residency
from server.adapters.shared_memory import SharedMemory
from server.engine.batch import Batch
from server.engine.fair_queue import Fairness
from server.engine.kv_cache import KVCache
from server.engine.messages import AdapterVersion, Event, FallbackPolicy, SamplingParams, Submit
from server.engine.page_layout import aligned
from server.engine.page_pool import PagePool
from server.engine.scheduler import Scheduler
from server.engine.scheduler_limits import SchedulerLimits
from server.engine.sequence import Sequence
from server.engine.window import WindowMode
from tests.scripted_loader import ScriptedLoader, form_of, memory_of

Kind = TypeVar("Kind")

ADAPTER_BYTES = 80


@dataclass
class Simulation:
    """Time passes only in `step` and by hand.

    `blocks` and `device_adapters` are what rows and adapters always have; with `shared`, so many pages more are for
    whichever needs them, and every adapter takes one.
    """

    rows: int = 4
    batch_tokens: int = 64
    window: float = 0.010
    max_group: int = 16
    timeout: float = 30.0
    blocks: int = 64
    device_adapters: int = 8
    shared: int | None = None
    step_seconds: float = 0.002
    window_mode: WindowMode = "fixed"
    fairness: Fairness = "tokens"
    starvation: float = 30.0
    prefix_cache: bool = True
    loader: ScriptedLoader = field(default_factory=lambda: ScriptedLoader(immediate=form_of(ADAPTER_BYTES)))
    now: float = 100.0
    events: list[Event] = field(default_factory=list)
    steps: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pages = PagePool(kv_floor=self.blocks)
        memory: DeviceMemory = memory_of(self.device_adapters * ADAPTER_BYTES)
        if self.shared is not None:
            self.pages = PagePool(
                kv_floor=self.blocks,
                adapter_floor=self.device_adapters,
                shared=self.shared,
                page_bytes=aligned(ADAPTER_BYTES),
            )
            device = torch.empty(1 + self.pages.total, self.pages.page_bytes, dtype=torch.uint8)
            memory = SharedMemory(self.pages, device, torch.uint8)
        self.kv = KVCache(self.pages, 4, prefix_cache=self.prefix_cache)
        self.residency = Residency(
            self.loader,
            memory=memory,
            report=self.events.append,
            clock=lambda: self.now,
        )
        limits = SchedulerLimits(
            max_rows=self.rows,
            max_batch_tokens=self.batch_tokens,
            window=self.window,
            max_group=self.max_group,
            adapter_wait_timeout=self.timeout,
            window_mode=self.window_mode,
            fairness=self.fairness,
            starvation_seconds=self.starvation,
        )
        self.scheduler = Scheduler(limits, self.kv, self.residency, emit=self.events.append, clock=lambda: self.now)
        self._count = 0

    def arrive(
        self,
        adapter: AdapterVersion | None = None,
        *,
        prompt: int = 4,
        tokens: int = 4,
        fallback: FallbackPolicy = "base",
        like: Sequence | None = None,
        tenant: str = "",
        priority: int = 0,
        deadline: float | None = None,
        **sampling: Any,
    ) -> Sequence:
        """A request comes in now, with a prompt that shares no block with another, or with that of `like`."""
        self._count += 1
        request = Submit(
            request_id=f"{adapter.name if adapter else 'base'}-{self._count}",
            prompt=like.request.prompt if like else [self._count * 1000 + index for index in range(prompt)],
            adapter=adapter,
            fallback=fallback,
            tenant=tenant,
            priority=priority,
            timeout=deadline,
            sampling=SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, **sampling),
        )
        sequence = Sequence(request, self.now)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[str]:
        """Schedule once and pretend to run it; the ids of the sequences that ran."""
        batch = self.scheduler.schedule()
        if batch is None:
            return []
        assert batch.tokens <= self.batch_tokens
        assert len(batch.rows) <= self.rows
        self.steps.append(batch)
        self.now += self.step_seconds
        self.scheduler.advance(batch, self.step_seconds)
        for row in batch.rows:
            if row.sample and (not row.sequence.append(7, frozenset()) or row.sequence.finished):
                self.scheduler.remove(row.sequence)
        self.kv.check()
        return [row.sequence.id for row in batch.rows]

    def run(self, limit: int = 2000) -> None:
        """Step until everything has ended; time also passes while nothing can run."""
        for _ in range(limit):
            if not self.scheduler.has_work:
                self.scheduler.check_empty()
                return
            if not self.step():
                self.now += 0.005
        raise AssertionError(f"{len(self.scheduler.sequences())} sequences never ended")

    def seen(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def admissions(self) -> list[str]:
        """The ids of all sequences in the order of their first step."""
        order: list[str] = []
        for batch in self.steps:
            order += [row.sequence.id for row in batch.rows if row.sequence.id not in order]
        return order
