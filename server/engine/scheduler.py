"""Which tokens of which sequences the next step computes.

Continuous batching: every decoding row gets its token, prompts are prefilled in chunks with what is left of
the step's token budget, and waiting groups are admitted in the order of their turns (`fair_queue.py`). A group
is the waiting sequences of one tenant for one adapter version; the same-adapter window is an order among groups,
never a sleep.
"""

import time
from collections.abc import Callable, Collection, Iterator

from server.adapters.loader import LoadFailure
from server.adapters.residency import Residency
from server.engine.adapter_waits import AdapterWaits
from server.engine.batch import Batch, Row
from server.engine.deadlines import Deadlines
from server.engine.fair_queue import FairQueue
from server.engine.fair_rows import RowShares
from server.engine.kv_cache import BlockHash, KVCache
from server.engine.messages import Event, Failed, GroupReport, LookupReport, Started
from server.engine.prefill_shares import shares_by_rows, shares_in_order
from server.engine.scheduler_limits import SchedulerLimits
from server.engine.sequence import Sequence
from server.engine.shared_prefixes import SharedPrefixes
from server.engine.waiting import AdapterQueue, WaitingQueues
from server.engine.window import Window


class Scheduler:
    """Owns the waiting and running sequences, their blocks and their adapters' pins. One thread calls it."""

    def __init__(
        self,
        limits: SchedulerLimits,
        kv_cache: KVCache,
        residency: Residency,
        *,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._kv = kv_cache
        self._prefixes = SharedPrefixes(kv_cache)
        self._residency = residency
        self._emit = emit
        self._clock = clock
        self._sequences: dict[str, Sequence] = {}
        self._running: list[Sequence] = []
        self._preempted: list[Sequence] = []
        self._pinned: set[Sequence] = set()
        self._adapter_waits = AdapterWaits(
            residency, timeout=limits.adapter_wait_timeout, patience=limits.space_patience, now=clock()
        )
        self._row_was_free = True
        self._held: list[AdapterQueue] = []
        self._fair = FairQueue(limits.fairness, limits.starvation_seconds)
        self._window = Window(limits.window_mode, limits.window)
        self.deadlines = Deadlines(limits.max_batch_tokens)
        self._step_seconds = 0.0  # an upper envelope: what the next step may well take
        self.waiting = WaitingQueues()
        self.preemptions = 0
        self.rows_taken_back = 0
        self.prefix_lookup_tokens = 0
        self.prefix_hit_tokens = 0

    @property
    def running(self) -> int:
        """Sequences that hold a row."""
        return len(self._running)

    @property
    def rowless(self) -> int:
        """Sequences that hold no row: those that wait for their first and those that were preempted."""
        return len(self.waiting) + len(self._preempted)

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its row."""
        self._sequences[sequence.id] = sequence
        if sequence.adapter is not None:
            nearest = self._residency.asked(sequence.adapter)
            sequence.tier = sequence.tier or nearest  # what was so when it came: its read may have ended since
            self._emit(LookupReport(name=sequence.adapter.name, digest=sequence.adapter.digest, tier=sequence.tier))
        self._window.arrived(sequence.digest, sequence.arrived)
        self._fair.enter(sequence)
        self.waiting.add(sequence)

    def oldest_waiting(self, now: float) -> float:
        """Seconds for which the oldest sequence without a row has been here; 0 where all have one."""
        return max((now - sequence.arrived for sequence in (*self.waiting, *self._preempted)), default=0.0)

    def get(self, request_id: str) -> Sequence | None:
        return self._sequences.get(request_id)

    def schedule(self) -> Batch | None:
        """The next step, or None when nothing can run now."""
        now = self._clock()
        self._drop_late(now)
        blocked = self._settle_adapters(now)
        planned, preempted = self._plan_decoding()
        if not preempted and self._resume():
            draining = self._adapter_waits.draining(blocked, now)
            while self._held:
                self._held.pop().account_hold(now)
            self._even_out_rows(planned, now, blocked, draining)
            self._admit(now, blocked, draining)
        planned |= self._plan_prefills(planned)
        self._row_was_free = len(self._running) < self._limits.max_rows
        if not planned:
            return None
        rows = [self._row(sequence, count) for sequence, count in planned.items()]
        rows.sort(key=lambda row: row.sequence.digest or "")
        return Batch(tuple(rows))

    def advance(self, batch: Batch, seconds: float) -> None:
        """Account for a step that ran: its KV is computed, its full blocks may be shared."""
        self._step_seconds = max(seconds, 0.9 * self._step_seconds)
        self.deadlines.ran(batch, seconds)
        for row in batch.rows:
            sequence = row.sequence
            if row.sample:
                self._fair.generated(sequence)
            first = sequence.computed // self._kv.block_size
            sequence.computed += row.count
            hashes = sequence.block_hashes(self._kv.block_size)
            for index in range(first, sequence.computed // self._kv.block_size):
                self._kv.seal(sequence.blocks[index], hashes[index])

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is: its row, blocks and pin are free at once."""
        del self._sequences[sequence.id]
        if sequence in self._running:
            self._running.remove(sequence)
            self._kv.release(sequence.blocks)
        elif sequence in self._preempted:
            self._preempted.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._fair.leave(sequence)
        self._unpin(sequence)

    def sequences(self) -> list[Sequence]:
        """Every sequence that has not ended."""
        return list(self._sequences.values())

    def check_empty(self) -> None:
        """Raise AssertionError if anything of an ended sequence is still held."""
        assert not self._sequences
        assert not self._running
        assert not self._preempted
        assert not self._pinned
        assert not len(self.waiting)
        assert not self._kv.used
        assert not self._residency.pins
        self._kv.check()

    def _row(self, sequence: Sequence, count: int) -> Row:
        """The next `count` tokens of a sequence, for its adapter as it is on the device."""
        form = self._residency.form(sequence.digest) if sequence.digest is not None else None
        return Row.next_of(sequence, count, form)

    def _drop_late(self, now: float) -> None:
        """End what can no longer be answered in its time."""
        for sequence, failed in self.deadlines.late(self.sequences(), now):
            self.remove(sequence)
            self._emit(failed)

    def _settle_adapters(self, now: float) -> AdapterQueue | None:
        """Move loads on, let the base answer for what cannot load, and return the group that lacks device space.

        Space goes by age, in rounds between tenants, and not by who was served least: an order that changes with every
        token would have adapters evict each other in circles.
        """
        waiting = self.waiting.by_age() if self._limits.fairness == "none" else self.waiting.in_rounds()
        blocked, in_vain = self._adapter_waits.settle(waiting, self._pinned, now, row_was_free=self._row_was_free)
        for sequence, failure in in_vain:
            self._fall_back(sequence, failure)
        return blocked if blocked is not None and blocked.sequences else None

    def _fall_back(self, sequence: Sequence, failure: LoadFailure) -> None:
        """Answer from the base, or refuse where the request forbids that."""
        if sequence.request.fallback == "error":
            self.remove(sequence)
            self._emit(
                Failed(
                    request_id=sequence.id, code="adapter_unavailable", message=failure.detail, reason=failure.reason
                )
            )
            return
        self.waiting.remove(sequence)
        self._fair.leave(sequence)
        sequence.fall_back(failure)
        self._fair.enter(sequence)
        self.waiting.add(sequence)

    def _plan_decoding(self) -> tuple[dict[Sequence, int], bool]:
        """A token for every row that decodes; True when blocks ran out for some."""
        before = self.preemptions
        planned: dict[Sequence, int] = {}
        for sequence in list(self._running):
            if sequence.pending == 1 and self._extend(sequence, planned):
                planned[sequence] = 1
        return planned, self.preemptions > before

    def _plan_prefills(self, planned: Collection[Sequence]) -> dict[Sequence, int]:
        """Prompts for the tokens that those `planned` leave of the step."""
        prefilling = [sequence for sequence in self._running if sequence not in planned]
        tokens = self._limits.max_batch_tokens - len(planned)
        if self._limits.fairness == "none":
            return shares_in_order(prefilling, tokens)
        return shares_by_rows(prefilling, self._running, tokens)

    def _extend(self, sequence: Sequence, planned: dict[Sequence, int]) -> bool:
        """Give a decoding sequence the block of its next token, at the cost of the youngest row if need be."""
        while sequence in self._running:
            missing = self._kv.blocks_for(sequence.computed + 1) - len(sequence.blocks)
            if self._has_room(missing, sequence):
                sequence.blocks += self._kv.allocate(max(0, missing)) or []
                return True
            victim = max(self._running, key=lambda running: running.arrived)
            self._preempt(victim)
            planned.pop(victim, None)
        return False

    def _preempt(self, sequence: Sequence) -> None:
        """Take a row back, to be computed anew; the adapter stays pinned, since a started answer cannot change it."""
        self._give_up_row(sequence)
        self.preemptions += 1
        self._preempted.append(sequence)

    def _give_up_row(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._kv.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0

    def _resume(self) -> bool:
        """Give preempted sequences their rows back, the oldest first; False while one still lacks room."""
        for sequence in sorted(self._preempted, key=lambda preempted: preempted.arrived):
            if self._is_full() or not self._take_row(sequence):
                return False
            self._preempted.remove(sequence)
        return True

    def _even_out_rows(
        self, planned: dict[Sequence, int], now: float, blocked: AdapterQueue | None, draining: Collection[str]
    ) -> None:
        """Where a step is full, let one more request into it if others hold far more rows than its tenant or adapter.

        One a step at most: that whose turn it is.
        """
        if self._limits.fairness == "none" or self._limits.max_rows < 2 or not self._is_full():
            return
        prefilling, shares = self._prefilling(), RowShares(self._running)
        for queue, first, candidates in self._turns(now, blocked, draining):
            if self._window_is_open(queue, now) or self._prefixes.next_missing(candidates[0]) in prefilling:
                continue
            if self._clear_row_for(candidates[0], shares, planned):
                self._admit_group(queue, candidates[:1], first, now, None)
                return

    def _clear_row_for(self, candidate: Sequence, shares: RowShares, planned: dict[Sequence, int]) -> bool:
        """See to a row for a sequence: a free one where its adapter has none yet, or one that is taken back.

        What was computed in the latter stays in the prefix cache; its sequence waits like others of its adapter, before
        those that came later, and keeps its pin. False, and no change, where there is neither.
        """
        if len(self._running) < self._limits.max_rows:
            return shares.of(candidate)[1] == 0
        richer = shares.to_take_back(candidate) if self._kv.prefix_cache else None
        if richer is None:
            return False
        self._give_up_row(richer)
        planned.pop(richer, None)
        self.waiting.add(richer)
        self.rows_taken_back += 1
        return True

    def _turns(
        self, now: float, blocked: AdapterQueue | None, draining: Collection[str]
    ) -> Iterator[tuple[AdapterQueue, Sequence | None, list[Sequence]]]:
        """The groups that may have rows, in the order of their turns: see `FairQueue.turns` and `_candidates`."""
        for queue, first in self._fair.turns(filter(self._is_ready, self.waiting.by_age()), now):
            # Its version may have been given up for a group of this step.
            if self._is_ready(queue) and (candidates := self._candidates(queue, first, blocked, draining)):
                yield queue, first, candidates

    def _candidates(
        self, queue: AdapterQueue, first: Sequence | None, blocked: AdapterQueue | None, draining: Collection[str]
    ) -> list[Sequence]:
        """The sequences of a group that may have a row, in their order, with `first` before the others.

        Where its adapter has to make place for an older group, these are those that had one before: until they end,
        it cannot go.
        """
        group = [first, *(other for other in queue.sequences if other is not first)] if first else list(queue.sequences)
        if blocked is not None and queue.digest in draining and queue.opened > blocked.opened:
            return [sequence for sequence in group if sequence.started]
        return group

    def _admit(self, now: float, blocked: AdapterQueue | None, draining: Collection[str]) -> None:
        """Admit waiting groups in the order of their turns, while rows, tokens and blocks last."""
        if self._is_full():
            return
        busy = bool(self._running)
        lacking: Sequence | None = None
        for queue, first, candidates in self._turns(now, blocked, draining):
            if self._is_full():
                return
            if lacking is not None and (queue.digest is None or queue.opened >= lacking.arrived):
                continue
            if busy and self._window_is_open(queue, now):
                queue.hold(now)
                self._held.append(queue)
            else:
                lacking = self._admit_group(queue, candidates, first, now, lacking) or lacking

    def _is_ready(self, queue: AdapterQueue) -> bool:
        """Is what would answer the group on the device?"""
        return queue.digest is None or self._residency.is_resident(queue.digest)

    def _admit_group(
        self,
        queue: AdapterQueue,
        candidates: list[Sequence],
        first: Sequence | None,
        now: float,
        lacking: Sequence | None,
    ) -> Sequence | None:
        """Start the candidates of one group; the one that lacked blocks, if one did.

        It has the next turn, and nothing overtakes it but, while it is `lacking`, those that are older and whose
        versions are not given up for it: these may be all that it lacks.
        """
        held, opened, short = queue.held_seconds, queue.opened, None
        admitted = begun = 0
        window = self._window.length(queue, now, self._step_seconds)
        prefilling = self._prefilling()
        least = self.waiting.priority_beside(queue, self._is_ready) if self._limits.fairness == "tokens" else None
        for sequence in candidates[: self._limits.max_group]:
            if lacking is not None and sequence.arrived >= lacking.arrived:
                continue
            if least is not None and sequence.request.priority < least and sequence is not first:
                break  # others of the tenant go before it
            if self._prefixes.next_missing(sequence) in prefilling:
                continue
            if len(self._running) >= self._limits.max_rows or (admitted and self._is_full()):
                break
            if not self._take_row(sequence):
                if lacking is None:
                    self._fair.lacked_blocks(sequence)
                short = sequence
                break
            prefilling |= self._prefixes.unsealed(sequence)
            self.waiting.remove(sequence)
            self._fair.admitted(sequence)
            admitted += 1
            if not sequence.started:
                begun += 1
                self._announce(sequence)
        if admitted:
            self._fair.took_turn(first if first in self._running else None)
        if begun:
            self._emit(
                GroupReport(
                    digest=queue.digest,
                    size=begun,
                    held_seconds=held,
                    waited_seconds=now - opened,
                    window_seconds=window,
                )
            )
            queue.held_seconds = 0.0
        return short

    def _prefilling(self) -> set[BlockHash]:
        """The prefixes that running rows are about to compute."""
        return {block_hash for sequence in self._running for block_hash in self._prefixes.unsealed(sequence)}

    def _is_full(self) -> bool:
        """Are all rows taken, or do they have as much to compute as a step takes?"""
        if len(self._running) >= self._limits.max_rows:
            return True
        return sum(sequence.pending for sequence in self._running) >= self._limits.max_batch_tokens

    def _window_is_open(self, queue: AdapterQueue, now: float) -> bool:
        """Would the group still be within its window at the next step?"""
        if len(queue) >= self._limits.max_group:
            return False
        return self._window.is_open(queue, now, self._step_seconds)

    def _take_row(self, sequence: Sequence) -> bool:
        """Give a sequence a row, the blocks of all its tokens and its pin; False, and no change, when blocks lack.

        Beside running rows one block for each is left free, so that they need not be preempted right away.
        """
        full = sequence.reusable // self._kv.block_size
        cached = self._kv.match(sequence.block_hashes(self._kv.block_size)[:full])
        missing = self._kv.blocks_for(len(sequence.tokens)) - len(cached)
        if not self._has_room(missing + len(self._running) + self._kv.matched_reusable(cached), sequence):
            return False
        self._kv.share(cached)
        blocks = self._kv.allocate(missing)
        assert blocks is not None
        sequence.blocks = cached + blocks
        sequence.computed = len(cached) * self._kv.block_size
        self._running.append(sequence)
        if sequence.digest is not None and sequence not in self._pinned:
            self._residency.pin(sequence.digest)
            self._pinned.add(sequence)
        return True

    def _has_room(self, blocks: int, sequence: Sequence) -> bool:
        """Are so many blocks available for a sequence, if adapters that nobody uses leave for them?

        Before it has started, those that older requests wait for stay.
        """
        lacking = blocks - self._kv.available
        if lacking > 0:
            keep = set() if sequence.started else self.waiting.digests_before(sequence.arrived)
            if sequence.digest is not None:
                keep.add(sequence.digest)
            self._residency.give_up(lacking * self._kv.pages.page_bytes, keep=keep)
        return blocks <= self._kv.available

    def _announce(self, sequence: Sequence) -> None:
        """Say that a sequence runs, on what, and how much of its prompt was cached."""
        sequence.started = True
        self.prefix_lookup_tokens += len(sequence.tokens)
        self.prefix_hit_tokens += sequence.computed
        self._emit(
            Started(
                request_id=sequence.id,
                digest=sequence.digest,
                fallback=sequence.failure.reason if sequence.failure else None,
                detail=sequence.failure.detail if sequence.failure else None,
                cached_tokens=sequence.computed,
                tier=sequence.tier,
            )
        )

    def _unpin(self, sequence: Sequence) -> None:
        if sequence in self._pinned:
            assert sequence.digest is not None
            self._pinned.remove(sequence)
            self._residency.unpin(sequence.digest)
