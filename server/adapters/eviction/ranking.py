"""Keys in the order of their scores, where scores change often and only the lowest are ever looked at."""

import heapq
from collections.abc import Iterator


class Ranking:
    """A heap whose entries may be re-scored: an outdated entry stays in it until it comes to the top."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._scores

    def __len__(self) -> int:
        return len(self._scores)

    def score(self, key: str) -> float:
        """The score of a ranked key."""
        return self._scores[key]

    def set(self, key: str, score: float) -> None:
        """Rank a key, or change its rank."""
        if self._scores.get(key) != score:
            self._scores[key] = score
            heapq.heappush(self._heap, (score, key))
            if len(self._heap) > 64 + 4 * len(self._scores):
                self._rebuild()

    def discard(self, key: str) -> None:
        """Forget a key; an unknown one is ignored."""
        self._scores.pop(key, None)

    def ascending(self) -> Iterator[str]:
        """All keys, the lowest score first; equal scores in the order of the keys. Stopping early is cheap."""
        passed: dict[str, float] = {}
        try:
            while self._heap:
                score, key = heapq.heappop(self._heap)
                if key not in passed and self._scores.get(key) == score:
                    passed[key] = score
                    yield key
        finally:
            for key, score in passed.items():
                heapq.heappush(self._heap, (score, key))

    def _rebuild(self) -> None:
        self._heap = [(score, key) for key, score in self._scores.items()]
        heapq.heapify(self._heap)
