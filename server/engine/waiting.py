"""The sequences that wait for a row: one queue per adapter version."""

import bisect
from collections.abc import Iterator

from server.engine.messages import AdapterVersion
from server.engine.sequence import Sequence


class AdapterQueue:
    """The waiting sequences of one adapter version (or of the base), the longest-waiting first."""

    def __init__(self, adapter: AdapterVersion | None) -> None:
        self.adapter = adapter
        self.sequences: list[Sequence] = []
        self.held_seconds = 0.0
        self._held_at: float | None = None

    @property
    def digest(self) -> str | None:
        return self.adapter.digest if self.adapter else None

    @property
    def opened(self) -> float:
        """When the same-adapter window opened: the arrival of the first sequence."""
        return self.sequences[0].arrived

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
        self._queues: dict[str | None, AdapterQueue] = {}

    def add(self, sequence: Sequence) -> None:
        queue = self._queues.get(sequence.digest)
        if queue is None:
            queue = self._queues[sequence.digest] = AdapterQueue(sequence.adapter)
        bisect.insort(queue.sequences, sequence, key=lambda waiting: waiting.arrived)

    def remove(self, sequence: Sequence) -> None:
        queue = self._queues[sequence.digest]
        queue.sequences.remove(sequence)
        if not queue.sequences:
            del self._queues[sequence.digest]

    def by_age(self) -> list[AdapterQueue]:
        """The queues, the one whose first sequence has waited longest first."""
        return sorted(self._queues.values(), key=lambda queue: queue.opened)

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._queues.values():
            yield from queue.sequences

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
