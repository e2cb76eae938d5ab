"""Which versions have been asked for lately, and how many bytes they are: what a cache would have to hold."""

from collections import OrderedDict

RECENT_SECONDS = 600.0

_REMEMBERED = 200_000


class WorkingSet:
    """Versions by digest. `now` is in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def sized(self, digest: str, size_bytes: int) -> None:
        """How many bytes a version takes on the device."""
        self._sizes[digest] = size_bytes
        self._sizes.move_to_end(digest)
        if len(self._sizes) > _REMEMBERED:
            self._sizes.popitem(last=False)

    def size_of(self, digest: str) -> int | None:
        """Bytes on the device, None where they are not known yet."""
        return self._sizes.get(digest)

    def asked(self, digest: str, now: float) -> None:
        """A request asked for a version."""
        self._asked[digest] = now
        self._asked.move_to_end(digest)
        self._forget(now)

    def now(self, now: float) -> tuple[int, int]:
        """How many versions were asked for in the last ten minutes, and their bytes as far as they are known."""
        self._forget(now)
        return len(self._asked), sum(self._sizes.get(digest, 0) for digest in self._asked)

    def _forget(self, now: float) -> None:
        while self._asked and next(iter(self._asked.values())) < now - RECENT_SECONDS:
            self._asked.popitem(last=False)
