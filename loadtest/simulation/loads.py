"""Loads in a simulated server: what waits for a worker, what reads, what copies, and what is preloaded in between."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loadtest.simulation.simulated_server import LoadTimes
from loadtest.simulation.tier import Tier
from loadtest.simulation.virtual_clock import VirtualClock
from server.adapters.preload_choice import PreloadCandidate, choose_preload


@dataclass
class _Load:
    key: str
    size_bytes: int
    preload: bool = False


@dataclass
class LoadCounts:
    """What was loaded so far."""

    from_store: int = 0
    from_host: int = 0
    store_bytes: int = 0
    device_bytes: int = 0
    preloads: int = 0
    preload_bytes: int = 0


class Loads:
    """Brings adapters onto the device, one load of a key at a time.

    What requests wait for comes first, in the order of asking. A preload is started only when nothing waits and a
    worker is idle; it is chosen by the engine's own rule.

    Args:
        resident: called with each key that has come onto the device.
    """

    def __init__(
        self,
        times: LoadTimes,
        sizes: Mapping[str, int],
        *,
        device: Tier,
        host: Tier,
        clock: VirtualClock,
        resident: Callable[[str], None],
    ) -> None:
        self.counts = LoadCounts()
        self._times = times
        self._sizes = sizes
        self._device = device
        self._host = host
        self._clock = clock
        self._resident = resident
        self._idle = times.workers
        self._under_way: dict[str, _Load] = {}
        self._queue: deque[_Load] = deque()
        self._blocked: deque[_Load] = deque()
        self._foretold: tuple[str, ...] = ()
        self._next_preload = 0.0
        self._wake_planned = False

    def want(self, key: str) -> None:
        """A request waits for a key that is not on the device."""
        load = self._under_way.get(key)
        if load is None:
            load = self._under_way[key] = _Load(key, self._sizes[key])
            self._queue.append(load)
            self.proceed()

    def foretell(self, rates: Mapping[str, float], *, preload: bool) -> None:
        """A forecast has come, the hottest first: both tiers hear of it, and preloading, if any, begins anew."""
        self._device.policy.foretold(rates, self._clock.now)
        self._host.policy.foretold(rates, self._clock.now)
        self._foretold = tuple(rates) if preload else ()
        self.proceed()

    def proceed(self) -> None:
        """Start what can be started: a worker, space or a forecast has come."""
        while self._idle:
            if self._blocked and self._device.reserve(self._blocked[0].size_bytes, self._clock.now):
                self._idle -= 1
                self._copy(self._blocked.popleft())
            elif self._queue:
                self._idle -= 1
                self._begin(self._queue.popleft())
            elif self._blocked or not self._start_preload():
                return

    # What `choose_preload` asks of a tier.

    @property
    def free_bytes(self) -> int:
        """See `PreloadTier`."""
        return self._device.free_bytes

    def holds(self, key: str) -> bool:
        """See `PreloadTier`."""
        return key in self._device or key in self._under_way

    def evictable(self) -> Iterator[tuple[str, int, float]]:
        """See `PreloadTier`."""
        return self._device.evictable(self._clock.now)

    def _start_preload(self) -> bool:
        now = self._clock.now
        if not self._foretold:
            return False
        if now < self._next_preload:
            if not self._wake_planned:
                self._wake_planned = True
                self._clock.after(self._next_preload - now, self._wake, None)
            return False
        chosen = choose_preload(self._candidates(), self, self._device.policy, now, self._device.confidence.margin)
        if chosen is None:
            self._foretold = ()  # until the next forecast
            return False
        key, size_bytes = chosen.candidate.key, chosen.candidate.size_bytes
        for victim in chosen.victims:
            self._device.evict(victim)
        self._device.reserve(size_bytes, now)
        self._next_preload = max(now, self._next_preload) + size_bytes / self._times.preload_bytes_per_second
        self.counts.preloads += 1
        self.counts.preload_bytes += size_bytes
        load = self._under_way[key] = _Load(key, size_bytes, preload=True)
        self._device.unused_preloads.add(key)
        self._idle -= 1
        self._begin(load)
        return True

    def _candidates(self) -> Iterator[PreloadCandidate]:
        for key in self._foretold:
            size_bytes = self._sizes[key]
            yield PreloadCandidate(key, size_bytes, self._reload_seconds(size_bytes))

    def _wake(self, _: None) -> None:
        self._wake_planned = False
        self._next_preload = self._clock.now  # which rounding may have put a little before it
        self.proceed()

    def _begin(self, load: _Load) -> None:
        if load.key in self._host:
            self.counts.from_host += 1
            self._place(load)
        else:
            self.counts.from_store += 1
            self.counts.store_bytes += load.size_bytes
            self._clock.after(self._times.read_seconds(load.size_bytes), self._read, load)

    def _read(self, load: _Load) -> None:
        now = self._clock.now
        if load.key not in self._host and self._host.reserve(load.size_bytes, now):
            self._host.admit(load.key, load.size_bytes, self._times.read_seconds(load.size_bytes), now)
        self._place(load)

    def _place(self, load: _Load) -> None:
        if load.preload or self._device.reserve(load.size_bytes, self._clock.now):
            self._copy(load)
        else:
            self._idle += 1
            self._blocked.append(load)
            self.proceed()

    def _copy(self, load: _Load) -> None:
        self.counts.device_bytes += load.size_bytes
        self._clock.after(self._times.copy_seconds(load.size_bytes), self._copied, load)

    def _copied(self, load: _Load) -> None:
        self._idle += 1
        del self._under_way[load.key]
        reload_seconds = self._reload_seconds(load.size_bytes)
        self._device.admit(load.key, load.size_bytes, reload_seconds, self._clock.now)
        self._resident(load.key)
        self.proceed()

    def _reload_seconds(self, size_bytes: int) -> float:
        """What a place on the device saves: a copy, since what leaves it usually lies in host memory still.

        Not by where the key lies now: one that is in the store only would be worth more before it is preloaded than
        after, and two of them would take turns for ever.
        """
        copy = self._times.copy_seconds(size_bytes)
        return copy if self._host.budget_bytes else copy + self._times.read_seconds(size_bytes)
