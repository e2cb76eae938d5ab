"""What a policy would have kept, had it ruled alone: keys and bytes, no contents."""

from server.adapters.eviction.policy import EvictionPolicy


class Shadow:
    """Plays one policy over the same requests in a tier of the same size. `policy` is its own."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self._policy = policy
        self._held: dict[str, int] = {}
        self._used = 0

    def asked(self, key: str, now: float) -> bool:
        """A request; does this tier hold the version?"""
        self._policy.asked(key, now)
        return key in self._held

    def take(self, key: str, size_bytes: int, reload_seconds: float, capacity: int, now: float) -> None:
        """Bring a version in that was asked for, in the place of what the policy gives up first."""
        if key in self._held or size_bytes > capacity:
            return
        for victim in list(self._victims(size_bytes, capacity, now)):
            self._used -= self._held.pop(victim)
            self._policy.removed(victim)
        self._held[key] = size_bytes
        self._used += size_bytes
        self._policy.admitted(key, size_bytes, reload_seconds, now)

    def foretold(self, rates: dict[str, float], now: float) -> None:
        """See `EvictionPolicy`."""
        self._policy.foretold(rates, now)

    def _victims(self, size_bytes: int, capacity: int, now: float) -> list[str]:
        lacking, victims = self._used + size_bytes - capacity, []
        for key in self._policy.coldest(now):
            if lacking <= 0:
                break
            victims.append(key)
            lacking -= self._held[key]
        return victims
