"""How the prompts that are being computed share the tokens of a step."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Ordered

from server.engine.fair_rows import RowShares
from server.engine.sequence import Sequence

FIRST_SHARE = 4
"""One part in so many is for who has had its row for longest, so that every prompt is computed in the end."""


def shares_in_order(prefilling: Ordered[Sequence], tokens: int) -> dict[Sequence, int]:
    """Tokens for each prompt that gets any of a step's, one after another."""
    return _hand_out(((sequence, tokens) for sequence in prefilling), tokens)


def shares_by_rows(prefilling: Ordered[Sequence], running: Ordered[Sequence], tokens: int) -> dict[Sequence, int]:
    """Tokens for each prompt that gets any of a step's.

    The one that has had its row for longest gets its part first. Then go those whose tenant, and of a tenant whose
    adapter, holds the fewest rows, as rows are given and taken by the same measure (`fair_rows.py`); of equal ones the
    adapter with the least to compute. A newcomer's short prompt does not wait for all the prompts of a hot adapter.

    Args:
        prefilling: the rows that have a prompt to compute, in the order in which they got their rows.
        running: all rows.
        tokens: what decoding rows leave of the step; none are given where it is not above 0.
    """
    if not prefilling:
        return {}
    rows = RowShares(running)
    pending: Counter[tuple[str, str | None]] = Counter()
    for sequence in prefilling:
        pending[sequence.tenant, sequence.digest] += sequence.pending
    order = sorted(prefilling, key=lambda row: (*rows.of(row), pending[row.tenant, row.digest]))
    first = (prefilling[0], max(1, tokens // FIRST_SHARE))
    return _hand_out([first, *((sequence, tokens) for sequence in order)], tokens)


def _hand_out(claims: Iterable[tuple[Sequence, int]], tokens: int) -> dict[Sequence, int]:
    """Each claim in turn: who, and the most that this claim may have."""
    shares: Counter[Sequence] = Counter()
    for sequence, most in claims:
        given = min(sequence.pending - shares[sequence], most, tokens)
        if given > 0:
            shares[sequence] += given
            tokens -= given
    return dict(shares)
