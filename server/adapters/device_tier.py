"""Adapters on the device: in reserved memory, by bytes at true ranks, with pins.

An arrival has its memory and is being copied into it; a resident may be used. Neither the pinned nor an arrival is ever
evicted. Keys are digests.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice

from server.adapters.device_memory import DeviceMemory, Reservation
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.loader import Loaded
from server.adapters.normal_form import NormalForm
from server.adapters.tier_space import victims_for
from server.engine.messages import AdapterVersion, ResidentAdapter


@dataclass
class Arrival:
    """A version that is being copied. `read` is the read that brought it into host memory for this, if one did."""

    version: AdapterVersion
    reservation: Reservation
    read: Loaded | None
    leaving: bool = False


@dataclass
class Resident:
    """A version that may be used. `leaving`: it was unloaded, and goes with its last pin."""

    version: AdapterVersion
    form: NormalForm
    reservation: Reservation
    pins: int = 0
    leaving: bool = False


class DeviceTier:
    """What lies in `memory`.

    `reload_seconds` tells what bringing a version of so many bytes back should take. `wanted` are the versions that
    requests wait for now, `kept` those that an operator wants here at all times: the owner says which.
    """

    def __init__(
        self,
        memory: DeviceMemory,
        policy: EvictionPolicy,
        *,
        reload_seconds: Callable[[int], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.memory = memory
        self.policy = policy
        self.reload_seconds = reload_seconds
        self.residents: OrderedDict[str, Resident] = OrderedDict()
        self.arrivals: dict[str, Arrival] = {}
        self.wanted: frozenset[str] = frozenset()
        self.kept: frozenset[str] = frozenset()
        self._clock = clock

    @property
    def free_bytes(self) -> int:
        """See `PreloadTier`: a prefix that was kept is not given up for what nobody has asked for."""
        return self.memory.unused_bytes

    @property
    def pins(self) -> int:
        """Pins held now, over all versions."""
        return sum(resident.pins for resident in self.residents.values())

    def holds(self, key: str) -> bool:
        """Is the version here, or arriving?"""
        return key in self.residents or key in self.arrivals

    def evictable(self) -> Iterator[tuple[str, int, float]]:
        """See `PreloadTier`."""
        return (one for one in self._idle() if one[0] not in self.wanted)

    def victims(self, size_bytes: int, protected: Set[str]) -> list[str] | None:
        """Which versions would make place for so many bytes, none of the protected; None where all would not do."""
        return victims_for(size_bytes, self.memory.free_bytes, (one for one in self._idle() if one[0] not in protected))

    def victims_of(self, form: NormalForm, protected: Set[str]) -> list[str] | None:
        """The same for a form that is in host memory: where it needs neighbouring pages, bytes do not tell.

        The coldest that do, less those that do not lie where it goes.
        """
        coldest = self._fewest_for(form, (digest for digest, _, _ in self._idle() if digest not in protected))
        if coldest is None:
            return None
        in_the_way = {id(one) for one in self.memory.in_the_way(form, self._reservations(coldest))}
        return [digest for digest in coldest if id(self.residents[digest].reservation) in in_the_way]

    def _fewest_for(self, form: NormalForm, digests: Iterator[str]) -> list[str] | None:
        """So many of the first residents that a form finds space without them; None where all would not do."""
        chosen: list[str] = []
        too_few = 0
        while not self.memory.fits(form, self._reservations(chosen)):
            more = [*islice(digests, max(1, len(chosen)))]
            if not more:
                return None
            too_few = len(chosen)
            chosen += more
        enough = len(chosen)
        while too_few + 1 < enough:
            middle = (too_few + enough) // 2
            if self.memory.fits(form, self._reservations(chosen[:middle])):
                enough = middle
            else:
                too_few = middle
        return chosen[:enough]

    def _reservations(self, digests: Iterable[str]) -> list[Reservation]:
        return [self.residents[digest].reservation for digest in digests]

    def lendable(self) -> Iterator[tuple[str, int]]:
        """Idle versions and the bytes that others than adapters could use in their place; the coldest first.

        What requests wait for comes last.
        """
        idle = [digest for digest, _, _ in self._idle()]
        for digest in sorted(idle, key=lambda digest: digest in self.wanted):
            shared = self.residents[digest].reservation.shared_bytes
            if shared:
                yield digest, shared

    def _idle(self) -> Iterator[tuple[str, int, float]]:
        """Key, bytes and reload seconds of what is neither pinned nor kept, what is worth least first."""
        for digest in self.policy.coldest(self._clock()):
            resident = self.residents[digest]
            if not resident.pins and digest not in self.kept:
                size_bytes = resident.reservation.size_bytes
                yield digest, size_bytes, self.reload_seconds(size_bytes)

    def arrive(self, version: AdapterVersion, form: NormalForm, read: Loaded | None) -> Arrival:
        """Reserve the memory of a form, which is in host memory; it is free."""
        reservation = self.memory.reserve(form)
        assert reservation is not None
        arrival = self.arrivals[version.digest] = Arrival(version, reservation, read)
        return arrival

    def settle_in(self, digest: str, form: NormalForm) -> None:
        """The copy of an arrival has ended: it may be used."""
        arrival = self.arrivals.pop(digest)
        self.residents[digest] = Resident(arrival.version, form, arrival.reservation)
        size_bytes = arrival.reservation.size_bytes
        self.policy.admitted(digest, size_bytes, self.reload_seconds(size_bytes), self._clock())

    def turn_away(self, digest: str) -> None:
        """Give the memory of an arrival back; its copy has ended."""
        self.memory.release(self.arrivals.pop(digest).reservation)

    def pin(self, digest: str) -> NormalForm:
        """See `Residency.pin`."""
        resident = self.residents[digest]
        resident.pins += 1
        resident.leaving = False
        self.residents.move_to_end(digest)
        return resident.form

    def unpin(self, digest: str) -> bool:
        """Give back one pin; True when the version should leave now."""
        resident = self.residents[digest]
        resident.pins -= 1
        return resident.leaving and not resident.pins

    def remove(self, digest: str) -> Resident:
        """Let a resident go, and give its memory back."""
        resident = self.residents.pop(digest)
        self.policy.removed(digest)
        self.memory.release(resident.reservation)
        return resident

    def to_drain_for(self, form: NormalForm) -> set[str]:
        """The residents that must be given up so that a form finds space; fewest pins first, and none that stays."""
        may_leave = [digest for digest in self.residents if digest not in self.kept]
        may_leave.sort(key=lambda digest: self.residents[digest].pins)
        fewest = self._fewest_for(form, iter(may_leave))
        return set(may_leave if fewest is None else fewest)

    def listed(self) -> list[ResidentAdapter]:
        """All residents, the least recently used first."""
        return [
            ResidentAdapter(
                name=resident.version.name,
                digest=digest,
                rank=resident.form.rank,
                size_bytes=resident.reservation.size_bytes,
                pinned=resident.pins > 0,
            )
            for digest, resident in self.residents.items()
        ]
