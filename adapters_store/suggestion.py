"""What a caller may have meant by a name that does not exist."""

import difflib
import heapq
from collections.abc import Iterable

from adapters_store.names import AdapterName

_MOST_COMPARED = 256


def closest_names(name: AdapterName, known: Iterable[AdapterName]) -> list[AdapterName]:
    """Up to two known names of the same tenant that resemble `name`, the nearest first.

    Other tenants' names are never told. Of a large store the names with the longest common ends are compared,
    so that a miss stays cheap.
    """
    candidates = {other.name: other for other in known if other.tenant == name.tenant}
    likely = heapq.nlargest(_MOST_COMPARED, candidates, key=lambda other: _common_ends(name.name, other))
    return [candidates[match] for match in difflib.get_close_matches(name.name, likely, n=2)]


def _common_ends(one: str, other: str) -> int:
    """Characters that two names share at the start and at the end."""
    return _common_start(one, other) + _common_start(one[::-1], other[::-1])


def _common_start(one: str, other: str) -> int:
    shorter = min(len(one), len(other))
    return next((index for index in range(shorter) if one[index] != other[index]), shorter)
