"""Which versions have been asked for lately, and how many bytes they are: what a cache would have to hold."""

from collections import OrderedDict

RECENT_SECONDS = 600.0

_REMEMBERED = 200_000


class WorkingSet:
    """Versions by digest. `now` is in seconds of any clock that does not go back.

    Invariant: `_bytes` is the sum of the known sizes of what was asked for.
    """

    def __init__(self) -> None:
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0

    def sized(self, digest: str, size_bytes: int) -> None:
        """How many bytes a version takes on the device."""
        if digest in self._asked:
            self._bytes += size_bytes - self._sizes.get(digest, 0)
        self._sizes[digest] = size_bytes
        self._sizes.move_to_end(digest)
        if len(self._sizes) > _REMEMBERED:
            forgotten, size = self._sizes.popitem(last=False)
            self._bytes -= size if forgotten in self._asked else 0

    def size_of(self, digest: str) -> int | None:
        """Bytes on the device, None where they are not known yet."""
        return self._sizes.get(digest)

    def asked(self, digest: str, now: float) -> None:
        """A request asked for a version."""
        if digest not in self._asked:
            self._bytes += self._sizes.get(digest, 0)
        self._asked[digest] = now
        self._asked.move_to_end(digest)
        self._forget(now)

    def now(self, now: float) -> tuple[int, int]:
        """How many versions were asked for in the last ten minutes, and their bytes as far as they are known."""
        self._forget(now)
        return len(self._asked), self._bytes

    def _forget(self, now: float) -> None:
        while self._asked and next(iter(self._asked.values())) < now - RECENT_SECONDS:
            digest, _ = self._asked.popitem(last=False)
            self._bytes -= self._sizes.get(digest, 0)
