"""Metric labels for adapters: a bounded set, however many adapters there are."""

from adapters_store.names import BASE_NAME

OTHER = "other"


class AdapterLabels:
    """Gives the first `limit` adapter names a label of their own; the rest share `other`.

    The bare base is always told apart and takes no place. A name keeps its label as long as the process runs,
    so that no counter goes back.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._named: set[str] = set()

    def of(self, name: str) -> str:
        """The label of an adapter name."""
        if name == BASE_NAME or name in self._named:
            return name
        if len(self._named) >= self._limit:
            return OTHER
        self._named.add(name)
        return name
