"""One cache tier: what it holds by bytes, and what may leave it."""

from collections import Counter
from collections.abc import Iterator

from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.preload_confidence import PreloadConfidence


class Tier:
    """Keys with their bytes under an eviction policy.

    Space is reserved before a key comes and counts as used from then on. A key that is held for a request, there or on
    its way, does not leave.
    """

    def __init__(self, budget_bytes: int, policy: EvictionPolicy) -> None:
        self.budget_bytes = budget_bytes
        self.policy = policy
        self.used_bytes = 0
        self.peak_bytes = 0
        self.evictions = 0
        self.unused_preloads: set[str] = set()
        self.wasted_preloads = 0
        self.confidence = PreloadConfidence()
        self._entries: dict[str, tuple[int, float]] = {}
        self._held = Counter[str]()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def free_bytes(self) -> int:
        """What can be reserved without anybody's leaving."""
        return self.budget_bytes - self.used_bytes

    def hold(self, key: str) -> None:
        """Keep a key that is there, or will be, until as many `release`."""
        self._held[key] += 1

    def release(self, key: str) -> None:
        """Give back one `hold`."""
        if self._held[key] == 1:
            del self._held[key]
        else:
            self._held[key] -= 1

    def reserve(self, size_bytes: int, now: float) -> bool:
        """Make space, if need be by evicting; evicts nothing where that cannot succeed."""
        lacking = size_bytes - self.free_bytes
        if lacking > 0:
            victims = []
            for key, size, _ in self.evictable(now):
                victims.append(key)
                lacking -= size
                if lacking <= 0:
                    break
            else:
                return False
            for key in victims:
                self.evict(key)
        self.used_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return True

    def admit(self, key: str, size_bytes: int, reload_seconds: float, now: float) -> None:
        """A key has come, into space that was reserved for it."""
        self._entries[key] = (size_bytes, reload_seconds)
        self.policy.admitted(key, size_bytes, reload_seconds, now)

    def evict(self, key: str) -> None:
        """A key leaves."""
        self.used_bytes -= self._entries.pop(key)[0]
        self.policy.removed(key)
        self.evictions += 1
        if key in self.unused_preloads:
            self.unused_preloads.remove(key)
            self.wasted_preloads += 1
            self.confidence.ended(useful=False)

    def evictable(self, now: float) -> Iterator[tuple[str, int, float]]:
        """Key, bytes and reload seconds of what may leave, what is worth least first."""
        for key in self.policy.coldest(now):
            if key not in self._held:
                yield key, *self._entries[key]
