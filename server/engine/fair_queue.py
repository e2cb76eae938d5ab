"""Whose turn it is: token-weighted fair queueing between tenants and, inside a tenant, between adapters."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Literal

from server.engine.sequence import Sequence
from server.engine.virtual_counters import VirtualCounters
from server.engine.waiting import AdapterQueue

Fairness = Literal["tokens", "none"]

_GroupTurn = tuple[int, float, int, AdapterQueue]
"""The priority, negated; tokens served; place by age."""

_TenantTurn = tuple[float, int, list[_GroupTurn], str]
"""Tokens served, place by age, a heap of the groups that may have a turn, and the tenant's name."""

INPUT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0
"""What a token costs: one that is generated takes a step of its row, those of a prompt share one."""

AGED_TURN = 4
"""Of so many groups that are admitted, one is that of the request that has waited longest, once it has waited long."""


class FairQueue:
    """Counts what tenants and their adapters are served, and puts waiting groups in the order of their turns.

    Of several tenants the least served one goes first. Of its groups, the one with the highest priority waiting in it;
    of equal ones the least served. With fairness "none", the one whose head has waited longest goes first.

    Bound: a request that has waited for `starvation_seconds`, and whose adapter is on the device, has its turn after
    at most `AGED_TURN` admitted groups for itself and for each such request that came before it, whatever comes
    after it. One that found too few free blocks has the very next turn, and nothing younger goes before it.
    """

    def __init__(self, fairness: Fairness, starvation_seconds: float) -> None:
        self._fairness = fairness
        self._starvation_seconds = starvation_seconds
        self._tenants: VirtualCounters[str] = VirtualCounters()
        self._adapters: dict[str, VirtualCounters[str | None]] = {}
        self._since_aged = 0
        self._turns_taken = 0
        self._due: Sequence | None = None
        self._lacking: Sequence | None = None

    def enter(self, sequence: Sequence) -> None:
        """A sequence waits or runs for its tenant and adapter from now on."""
        tenant = sequence.tenant
        self._tenants.enter(tenant)
        self._adapters.setdefault(tenant, VirtualCounters()).enter(sequence.digest)

    def leave(self, sequence: Sequence) -> None:
        """A sequence has ended, or is about to change its adapter."""
        tenant = sequence.tenant
        self._tenants.leave(tenant)
        self._adapters[tenant].leave(sequence.digest)
        if not self._tenants.is_active(tenant):
            del self._adapters[tenant]
        if self._lacking is sequence:
            self._lacking = None
        if self._due is sequence:
            self._due = None

    def admitted(self, sequence: Sequence) -> None:
        """A sequence got a row: what it has to compute of its prompt is charged, cached prefixes are not.

        Once: that a row was taken back is no fault of whom it is given again.
        """
        if not sequence.started:
            self._charge(sequence, INPUT_WEIGHT * sequence.pending)
        if self._lacking is sequence:
            self._lacking = None

    def generated(self, sequence: Sequence) -> None:
        """A sequence got a token."""
        self._charge(sequence, OUTPUT_WEIGHT)

    def lacked_blocks(self, sequence: Sequence) -> None:
        """The sequence whose turn it was found too few free blocks: it keeps its turn."""
        self._lacking = sequence

    def served(self, tenant: str, digest: str | None) -> tuple[float, float]:
        """The counters of an active tenant and of one of its adapters."""
        return self._tenants.served(tenant), self._adapters[tenant].served(digest)

    def turns(self, queues: Iterable[AdapterQueue], now: float) -> Iterator[tuple[AdapterQueue, Sequence | None]]:
        """The turns of `queues`, in their order; what is admitted meanwhile is taken into account.

        One that took its turn and still has requests waiting may have another, since else groups of small requests
        would be served less than those of large ones while rows are free. The others have one.

        Beside a queue stands the sequence to begin with, where that is not its first. The caller says `took_turn`.
        """
        by_age = sorted(queues, key=lambda queue: queue.opened)
        if self._fairness == "none":
            yield from ((queue, queue.oldest) for queue in by_age)
            return
        # All of it before the first turn: a queue that has had its turn may be empty.
        aged = iter([(queue, queue.oldest) for queue in by_age if now - queue.opened > self._starvation_seconds])
        fair = self._in_turn(self._tenant_turns(by_age))
        given: set[int] = set()
        lacking = next((queue for queue in by_age if self._lacking in queue.sequences), None)
        if lacking is not None:
            given.add(id(lacking))
            yield lacking, self._lacking
        while True:
            turn: tuple[AdapterQueue, Sequence | None] | None = None
            if self._since_aged >= AGED_TURN - 1:
                turn = next((turn for turn in aged if id(turn[0]) not in given), None)
                self._due = turn[1] if turn is not None else None
            if turn is None:
                turn = next(((queue, None) for queue in fair if queue.sequences), None)
            if turn is None:
                return
            given.add(id(turn[0]))
            yield turn

    def took_turn(self, first: Sequence | None) -> None:
        """A group was admitted, with `first` (see `turns`) or without one to begin with."""
        self._turns_taken += 1
        self._since_aged = 0 if first is not None and first is self._due else self._since_aged + 1

    def _tenant_turns(self, by_age: Iterable[AdapterQueue]) -> list[_TenantTurn]:
        """The groups of each tenant in their order; a heap. Tenants that are served equally stand by age."""
        tenants: dict[str, list[AdapterQueue]] = {}
        for queue in by_age:
            tenants.setdefault(queue.tenant, []).append(queue)
        turns = []
        for age, (tenant, groups) in enumerate(tenants.items()):
            served = self._adapters[tenant].served
            ordered = [(-queue.priority, served(queue.digest), place, queue) for place, queue in enumerate(groups)]
            heapq.heapify(ordered)
            turns.append((self._tenants.served(tenant), age, ordered, tenant))
        heapq.heapify(turns)
        return turns

    def _in_turn(self, turns: list[_TenantTurn]) -> Iterator[AdapterQueue]:
        """The next group of the least served tenant, again and again."""
        while turns:
            _, age, groups, tenant = turns[0]
            if not groups:
                heapq.heappop(turns)
                continue
            _, _, place, queue = heapq.heappop(groups)
            taken = self._turns_taken
            yield queue
            if self._turns_taken > taken and queue.sequences:
                served = self._adapters[tenant].served(queue.digest)
                heapq.heappush(groups, (-queue.priority, served, place, queue))
            heapq.heapreplace(turns, (self._tenants.served(tenant), age, groups, tenant))

    def _charge(self, sequence: Sequence, tokens: float) -> None:
        self._tenants.charge(sequence.tenant, tokens)
        self._adapters[sequence.tenant].charge(sequence.digest, tokens)
