"""Whose row is taken back where all are taken and one whose turn it is has far fewer of them."""

from collections import Counter
from collections.abc import Collection

from server.engine.sequence import Sequence


def row_to_take_back(candidate: Sequence, running: Collection[Sequence]) -> Sequence | None:
    """The sequence whose row `candidate` should have instead; None where rows are even enough.

    Rows are evened out between tenants, and inside a tenant between adapters: whoever has most of them gives one up, if
    it then still has as many as the candidate's. Such a move makes the shares more even, so that no row is taken back
    and forth. Of the rows the youngest goes. Inside a tenant none goes to a lower priority.
    """
    tenants = Counter(sequence.tenant for sequence in running)
    richest = max(tenants, key=lambda tenant: tenants[tenant], default=candidate.tenant)
    if tenants[richest] - tenants[candidate.tenant] >= 2:
        held = [sequence for sequence in running if sequence.tenant == richest]
        rows = Counter(sequence.digest for sequence in held)
        return max(held, key=lambda sequence: (rows[sequence.digest], sequence.arrived))
    own = [sequence for sequence in running if sequence.tenant == candidate.tenant]
    rows = Counter(sequence.digest for sequence in own)
    richer = [
        sequence
        for sequence in own
        if rows[sequence.digest] - rows[candidate.digest] >= 2
        and sequence.request.priority <= candidate.request.priority
    ]
    return max(richer, key=lambda sequence: (rows[sequence.digest], sequence.arrived), default=None)
