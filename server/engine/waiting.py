"""The sequences that wait for a row: one queue per tenant and adapter version."""

import bisect
from collections import Counter
from collections.abc import Callable, Iterator

from server.engine.messages import AdapterVersion
from server.engine.sequence import Sequence


class AdapterQueue:
    """The waiting sequences of one tenant for one adapter version (or for the base).

    Those of a higher priority come first, of equal ones the longest-waiting.
    """

    def __init__(self, adapter: AdapterVersion | None, tenant: str = "") -> None:
        self.adapter = adapter
        self.tenant = tenant
        self.sequences: list[Sequence] = []
        self._oldest: Sequence | None = None
        self.held_seconds = 0.0
        self._held_at: float | None = None

    @property
    def digest(self) -> str | None:
        return self.adapter.digest if self.adapter else None

    @property
    def priority(self) -> int:
        """The highest that waits here."""
        return self.sequences[0].request.priority

    @property
    def oldest(self) -> Sequence:
        """The sequence that has waited longest."""
        if self._oldest is None:
            self._oldest = min(self.sequences, key=lambda waiting: waiting.arrived)
        return self._oldest

    @property
    def opened(self) -> float:
        """When the same-adapter window opened: the arrival of the longest-waiting sequence."""
        return self.oldest.arrived

    def add(self, sequence: Sequence) -> None:
        """A sequence waits here from now on."""
        bisect.insort(self.sequences, sequence, key=lambda waiting: (-waiting.request.priority, waiting.arrived))
        if self._oldest is not None and sequence.arrived < self._oldest.arrived:
            self._oldest = sequence

    def remove(self, sequence: Sequence) -> None:
        """A sequence waits here no longer."""
        self.sequences.remove(sequence)
        if sequence is self._oldest:
            self._oldest = None

    def hold(self, now: float) -> None:
        """The window holds the group back in the step that begins now, although a row is free."""
        self._held_at = now

    def account_hold(self, now: float) -> None:
        """Add the last step's time to `held_seconds` if the window held the group back then."""
        if self._held_at is not None:
            self.held_seconds += now - self._held_at
            self._held_at = None

    def __len__(self) -> int:
        return len(self.sequences)


class WaitingQueues:
    """All queues. Sequences that fell back keep the place that their arrival gave them."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str | None], AdapterQueue] = {}
        self._by_age: tuple[AdapterQueue, ...] | None = None
        self._in_rounds: tuple[AdapterQueue, ...] | None = None

    def add(self, sequence: Sequence) -> None:
        key = (sequence.tenant, sequence.digest)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = AdapterQueue(sequence.adapter, sequence.tenant)
        queue.add(sequence)
        self._forget_order()

    def remove(self, sequence: Sequence) -> None:
        key = (sequence.tenant, sequence.digest)
        queue = self._queues[key]
        queue.remove(sequence)
        if not queue.sequences:
            del self._queues[key]
        self._forget_order()

    def by_age(self) -> tuple[AdapterQueue, ...]:
        """The queues, the one whose oldest sequence has waited longest first."""
        if self._by_age is None:
            self._by_age = tuple(sorted(self._queues.values(), key=lambda queue: queue.opened))
        return self._by_age

    def in_rounds(self) -> tuple[AdapterQueue, ...]:
        """The oldest queue of each tenant, then the second of each, and so on; each round by age.

        The order does not change with what is served, only with who waits, and the oldest of all is always first.
        """
        if self._in_rounds is not None:
            return self._in_rounds
        begun: Counter[str] = Counter()
        rounds = []
        for queue in self.by_age():
            rounds.append((begun[queue.tenant], queue))
            begun[queue.tenant] += 1
        self._in_rounds = tuple(queue for _, queue in sorted(rounds, key=lambda turn: turn[0]))
        return self._in_rounds

    def _forget_order(self) -> None:
        self._by_age = self._in_rounds = None

    def priority_beside(self, queue: AdapterQueue, is_ready: Callable[[AdapterQueue], bool]) -> int | None:
        """The highest priority in the tenant's other queues that are ready; None where it has none."""
        others = (
            other
            for other in self._queues.values()
            if other.tenant == queue.tenant and other is not queue and is_ready(other)
        )
        return max((other.priority for other in others), default=None)

    def digests_before(self, arrived: float) -> set[str]:
        """The adapter versions that requests wait for which came before that time."""
        return {queue.digest for queue in self._queues.values() if queue.digest and queue.opened < arrived}

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._queues.values():
            yield from queue.sequences

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
