"""What waiting groups wait for where their adapter is not on the device, and for how long they may."""

from collections.abc import Collection, Iterable

from server.adapters.loader import LoadFailure
from server.adapters.residency import Residency
from server.engine.sequence import Sequence
from server.engine.waiting import AdapterQueue


class AdapterWaits:
    """Moves loads on and counts the time that adapters alone cost the requests that wait for them.

    That is not the time in which no row was free, nor that in which an adapter waits for device space, or behind one
    that does, and what holds the space came before it. `timeout` and `patience` are `adapter_wait_timeout` and
    `space_patience`, in seconds.
    """

    def __init__(self, residency: Residency, *, timeout: float, patience: float, now: float) -> None:
        self._residency = residency
        self._timeout = timeout
        self._patience = patience
        self._settled_at = now

    def settle(
        self, waiting: Iterable[AdapterQueue], holders: Collection[Sequence], now: float, *, row_was_free: bool
    ) -> tuple[AdapterQueue | None, list[tuple[Sequence, LoadFailure]]]:
        """Settle the residency, for groups in the order in which they get device space.

        `holders` are the sequences that pin an adapter; `row_was_free` is true where one was all through the last step.
        Returns the group that lacks device space, and the sequences whose adapter does not come, with the reason.
        """
        elapsed, self._settled_at = now - self._settled_at, now
        queues = [queue for queue in waiting if queue.adapter is not None]
        lacking = self._residency.settle(queue.adapter for queue in queues if queue.adapter is not None)
        blocked: AdapterQueue | None = None
        in_vain: list[tuple[Sequence, LoadFailure]] = []
        older_holds = False
        for queue in queues:
            assert queue.adapter is not None
            if self._residency.is_resident(queue.adapter.digest):
                older_holds = True
                continue
            if blocked is None and queue.digest == lacking:
                blocked = queue
            only_busy = blocked is not None and (older_holds or self._is_held(holders, queue))
            failure = self._residency.failure(queue.adapter.digest)
            for sequence in queue.sequences:
                if row_was_free and not only_busy:
                    sequence.adapter_wait += min(elapsed, now - sequence.arrived)
                if failure is not None:
                    in_vain.append((sequence, failure))
                elif sequence.adapter_wait >= self._timeout:
                    detail = f"{queue.adapter.name} was not on the device within {self._timeout:g} s"
                    if self._residency.device.kept:
                        detail += ": operators' pins leave too little of it; unpin some, or raise the adapter budget"
                    in_vain.append((sequence, LoadFailure("timeout", detail)))
        return blocked, in_vain

    def draining(self, blocked: AdapterQueue | None, now: float) -> set[str]:
        """The adapters that must make place for a group that lacks device space, once it has been patient."""
        if blocked is None or blocked.digest is None or now - blocked.opened <= self._patience:
            return set()
        return self._residency.to_drain_for(blocked.digest) - self._residency.device.kept

    def _is_held(self, holders: Iterable[Sequence], queue: AdapterQueue) -> bool:
        """Do requests hold device space that came before their adapters could be drained for the group?

        They are few and end. Operators' pins, and what younger requests take for ever, are no reason to wait for ever.
        """
        kept, drained = self._residency.device.kept, queue.opened + self._patience
        return any(holder.arrived <= drained and holder.digest not in kept for holder in holders)
