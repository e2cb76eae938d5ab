"""What hit ratio a cache of another size would have had, without simulating it.

An LRU cache of any size hits a request if the versions asked for since the last request for the same one, and that one
itself, fit into it. That sum of bytes, the request's stack distance (Mattson et al., 1970), gives the hit ratios of all
sizes at once. Beyond a bounded number of versions only a sample by hash is followed, and its distances are scaled up
(SHARDS: Waldspurger et al., FAST 2015), with the number of requests corrected to the true one.
"""

import hashlib
import heapq
import math
from collections.abc import Sequence

FOLLOWED = 4096
HALF_LIFE = 3600.0
"""Requests of an hour ago count half as much as those of now."""

_PARTS = 32  # of a doubling of bytes: sizes are told apart to 2.2 %
_FADES = 60.0
_HASHES = 1 << 32


class GhostCache:
    """Follows requests by key and bytes. `followed` bounds how many keys are followed at a time. Not thread-safe."""

    def __init__(self, followed: int = FOLLOWED) -> None:
        self._most = followed
        self._threshold = _HASHES
        self._stack = _Stack(followed)
        self._hashes: list[tuple[int, str]] = []
        self._requests = 0.0
        self._sampled = 0.0
        self._distances: dict[int, float] = {}
        self._faded: float | None = None

    @property
    def sample_rate(self) -> float:
        """The share of all keys that is followed."""
        return self._threshold / _HASHES

    @property
    def requests(self) -> float:
        """Requests that the ratios are of, the older ones faded."""
        return self._requests

    def asked(self, key: str, size_bytes: int, now: float) -> None:
        """One request, at `now` in seconds of any clock."""
        self._fade(now)
        self._requests += 1.0
        hashed = _hash(key)
        if hashed >= self._threshold:
            return
        rate = self.sample_rate
        self._sampled += 1.0 / rate
        known = key in self._stack
        distance = self._stack.touch(key, size_bytes)
        if distance is not None:
            # What lies above the key was sampled, the key itself is there for sure.
            scaled = (distance - size_bytes) / rate + size_bytes
            bucket = _bucket(scaled)
            self._distances[bucket] = self._distances.get(bucket, 0.0) + 1.0 / rate
        if not known:
            heapq.heappush(self._hashes, (-hashed, key))
            if len(self._stack) > self._most:
                self._thin_out()

    def hit_ratios(self, budgets: Sequence[int]) -> list[float]:
        """The share of requests that an LRU cache of each of these sizes would have had; 0 before any request."""
        if not self._requests:
            return [0.0 for _ in budgets]
        # A sample that caught too few or too many requests did so with the keys asked for most, which are near.
        missing = self._requests - self._sampled
        ratios = []
        for budget in budgets:
            hits = sum(weight for bucket, weight in self._distances.items() if _upper_edge(bucket) <= budget)
            ratios.append(min(1.0, max(0.0, (hits + missing if hits else 0.0) / self._requests)))
        return ratios

    def _thin_out(self) -> None:
        """Follow fewer keys: those with the largest hashes are let go, and are not taken up again."""
        while len(self._stack) > self._most:
            hashed, key = heapq.heappop(self._hashes)
            self._threshold = -hashed
            self._stack.remove(key)

    def _fade(self, now: float) -> None:
        if self._faded is None:
            self._faded = now
        elapsed = now - self._faded
        if elapsed >= _FADES:
            factor = 2.0 ** -(elapsed / HALF_LIFE)
            self._requests *= factor
            self._sampled *= factor
            self._distances = {bucket: factor * weight for bucket, weight in self._distances.items()}
            self._faded = now


class _Stack:
    """Keys in the order of their last requests, over a Fenwick tree of their bytes: a distance costs a logarithm."""

    def __init__(self, keys: int) -> None:
        self._size = 1 << max(4, (4 * keys).bit_length())
        self._tree = [0] * (self._size + 1)
        self._places: dict[str, tuple[int, int]] = {}
        self._next = 1
        self._total = 0

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def touch(self, key: str, size_bytes: int) -> int | None:
        """Put a key on top. Bytes from the top down to where it was, its own included; None where it was not."""
        below = self._places.pop(key, None)
        distance = None
        if below is not None:
            place, before = below
            distance = self._total - self._sum(place) + size_bytes
            self._add(place, -before)
        if self._next > self._size:
            self._compact()
        self._places[key] = (self._next, size_bytes)
        self._add(self._next, size_bytes)
        self._next += 1
        return distance

    def remove(self, key: str) -> None:
        """Take a key out."""
        place, size_bytes = self._places.pop(key)
        self._add(place, -size_bytes)

    def _compact(self) -> None:
        """Close the gaps; the dictionary has the keys in the order of their places."""
        self._places = {key: (place, size) for place, (key, (_, size)) in enumerate(self._places.items(), start=1)}
        self._tree = [0] * (self._size + 1)
        self._total, self._next = 0, len(self._places) + 1
        for place, size in self._places.values():
            self._add(place, size)

    def _add(self, place: int, amount: int) -> None:
        self._total += amount
        while place <= self._size:
            self._tree[place] += amount
            place += place & -place

    def _sum(self, place: int) -> int:
        total = 0
        while place:
            total += self._tree[place]
            place -= place & -place
        return total


def _hash(key: str) -> int:
    """The same in every process, so that ratios are comparable."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big")


def _bucket(distance: float) -> int:
    return math.ceil(_PARTS * math.log2(max(distance, 1.0)) - 1e-9)


def _upper_edge(bucket: int) -> float:
    return float(2.0 ** (bucket / _PARTS)) * (1 - 1e-9)
