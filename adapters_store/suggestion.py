"""What a caller may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable

from adapters_store.names import AdapterName

_MOST_COMPARED = 256


def closest_names(name: AdapterName, known: Iterable[AdapterName]) -> list[AdapterName]:
    """Up to two known names of the same tenant that resemble `name`, the nearest first.

    Other tenants' names are never told. Of a large store the names most alike in first letter and length are
    compared, so that a miss stays cheap.
    """
    candidates = {other.name: other for other in known if other.tenant == name.tenant}
    likely = sorted(candidates, key=lambda other: (other[0] != name.name[0], abs(len(other) - len(name.name))))
    return [candidates[match] for match in difflib.get_close_matches(name.name, likely[:_MOST_COMPARED], n=2)]
