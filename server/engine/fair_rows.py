"""Who holds how many rows, and whose row another should have instead."""

from collections import Counter
from collections.abc import Collection, Iterable

from server.engine.sequence import Sequence


class RowShares:
    """The rows of a moment, counted by tenant and by a tenant's adapter."""

    def __init__(self, running: Collection[Sequence]) -> None:
        self._running = running
        self._tenants = Counter(sequence.tenant for sequence in running)
        self._adapters = Counter((sequence.tenant, sequence.digest) for sequence in running)
        self._richest = max(self._tenants, key=lambda tenant: self._tenants[tenant], default="")

    def of(self, sequence: Sequence) -> tuple[int, int]:
        """How many its tenant holds, and how many of them for its adapter."""
        return self._tenants[sequence.tenant], self._adapters[sequence.tenant, sequence.digest]

    def to_take_back(self, candidate: Sequence) -> Sequence | None:
        """The sequence whose row `candidate` should have instead; None where rows are even enough.

        Rows are evened out between tenants, and inside a tenant between adapters: whoever has most of them gives one
        up, if it then still has as many as the candidate's. Such a move makes the shares more even, so that no row is
        taken back and forth. Of the rows the youngest goes. Inside a tenant none goes to a lower priority.
        """
        tenants, adapters = self.of(candidate)
        if self._tenants[self._richest] - tenants >= 2:
            return self._youngest(sequence for sequence in self._running if sequence.tenant == self._richest)
        return self._youngest(
            sequence
            for sequence in self._running
            if sequence.tenant == candidate.tenant
            and self._adapters[sequence.tenant, sequence.digest] - adapters >= 2
            and sequence.request.priority <= candidate.request.priority
        )

    def _youngest(self, rows: Iterable[Sequence]) -> Sequence | None:
        """Of the adapter that holds most of all rows."""
        return max(rows, key=lambda row: (self._adapters[row.tenant, row.digest], row.arrived), default=None)
