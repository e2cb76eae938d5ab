"""Which adapter versions are where: on the device, in host memory below it, or only in the store.

A version is *cold*, *loading* (read into host memory, waiting for space, or copied onto the device), *resident*, or
*evicting* (it was unloaded and goes when its last pin, or the copy that is under way, ends). Only the engine's thread
calls this; the loader's threads read and copy, and hand over what they have finished.

Invariants: what is on the device never exceeds its memory, nor what is in the host tier its budget; a pinned version
is never evicted; a version that an older request waits for is not evicted for a younger one, so the oldest request
always gets its turn; no preload takes the place of what somebody waits for; every preload ends, once, as useful or
as wasted.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Literal

from server.adapters.device_memory import DeviceMemory
from server.adapters.device_tier import Arrival, DeviceTier
from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.foretold import Foretold
from server.adapters.host_tier import HostEntry, HostTier
from server.adapters.load_costs import LoadCosts
from server.adapters.load_failures import LoadFailures
from server.adapters.loader import AdapterLoader, Copied, Loaded, LoadFailure
from server.adapters.normal_form import NormalForm
from server.adapters.preload_choice import PreloadCandidate, choose_preload
from server.adapters.preload_ledger import PreloadLedger
from server.adapters.preloading import Preloading
from server.adapters.residency_reports import ResidencyReports
from server.adapters.version_reader import too_large
from server.engine.messages import (
    AdapterVersion,
    EvictionReason,
    Report,
    ResidentAdapter,
    Tier,
)

State = Literal["cold", "loading", "resident", "evicting"]

_PRELOADS_AT_A_TIME = 2


class Residency:
    """Both tiers. `report` receives loads, evictions and the ends of preloads.

    Args:
        loader: reads and copies beside the engine's thread.
        memory: the device's, for adapters.
        host_budget_bytes: what forms in host memory may take; 0 keeps none longer than a load needs it.
        policy: makes one eviction policy for each tier.
    """

    def __init__(
        self,
        loader: AdapterLoader,
        *,
        memory: DeviceMemory,
        host_budget_bytes: int = 0,
        policy: Callable[[], EvictionPolicy] = LeastRecentlyUsed,
        report: Callable[[Report], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.memory = memory
        self._costs = LoadCosts()
        self.device = DeviceTier(memory, policy(), reload_seconds=self._reload_seconds, clock=clock)
        self.host = HostTier(host_budget_bytes, policy(), self._costs, clock=clock)
        self._loader = loader
        self._reports = ResidencyReports(report)
        self._clock = clock
        self._failures = LoadFailures(clock)
        self._ledger = PreloadLedger(report)
        self._preloading = Preloading(
            self.device,
            self.host,
            confidence=self._ledger.confidence,
            is_open=self._may_begin,
            refuse=self._refuse_pin,
            clock=clock,
        )
        self._reads: dict[str, Loaded] = {}
        self._discarded: set[str] = set()

    @property
    def budget_bytes(self) -> int:
        """The most that adapters may ever take on the device."""
        return self.memory.budget_bytes

    @property
    def used_bytes(self) -> int:
        """What adapters take on the device now, those included that are being copied."""
        return self.memory.used_bytes

    @property
    def pins(self) -> int:
        """Pins held now, over all versions."""
        return self.device.pins

    def is_resident(self, digest: str) -> bool:
        """May the version be used now? Safe from any thread."""
        return digest in self.device.residents

    def is_cold(self, digest: str) -> bool:
        """Is it worth reading the version now: in no tier, and not known to fail? Safe from any thread.

        The answer may be out of date at once: a read that is then started for nothing is dropped when it ends.
        """
        return not self.device.holds(digest) and not self.host.holds(digest) and self.failure(digest) is None

    def state(self, digest: str) -> State:
        """Where the version is on its way onto the device and off it again."""
        resident, arrival = self.device.residents.get(digest), self.device.arrivals.get(digest)
        if resident is not None:
            return "evicting" if resident.leaving else "resident"
        if arrival is not None:
            return "evicting" if arrival.leaving else "loading"
        return "loading" if self._loader.is_pending(digest) or digest in self._reads else "cold"

    def failure(self, digest: str) -> LoadFailure | None:
        """Why the version could not be loaded, while that is remembered."""
        return self._failures.current(digest)

    def asked(self, version: AdapterVersion) -> Tier:
        """A request asks for a version: the nearest tier that has it. Call it once for every request."""
        digest = version.digest
        self.device.policy.asked(digest, self._clock())
        self.host.asked(digest)
        self._loader.promote_copy(digest)
        tier: Tier = "store"
        if self.is_resident(digest):
            tier = "device"
        elif self._form(digest) is not None or digest in self.device.arrivals:
            tier = "host"
        if tier == "store" and not self._loader.is_preload(digest):
            self._ledger.forget(digest)
        else:
            self._ledger.end(digest, "useful")
        return tier

    def pin(self, digest: str) -> NormalForm:
        """Use a resident version in a running row; it stays until as many `unpin`."""
        return self.device.pin(digest)

    def unpin(self, digest: str) -> None:
        """Give back one `pin`."""
        if self.device.unpin(digest):
            self._evict(digest, "unload")

    def form(self, digest: str) -> NormalForm:
        """The form of a resident version."""
        return self.device.residents[digest].form

    def resident(self) -> list[ResidentAdapter]:
        """All versions that may be used now, the least recently used first."""
        return self.device.listed()

    def unload(self, digest: str) -> None:
        """Drop a version from both tiers, now or when its last pin goes, and what is remembered of its failures."""
        self._failures.forget(digest)
        self._preloading.forget(digest)
        self._ledger.end(digest, "wasted")
        if digest not in self.device.wanted:
            if self.host.holds(digest):
                self._evict_from_host(digest, "unload")
            if self._loader.is_pending(digest):
                self._discarded.add(digest)
        resident = self.device.residents.get(digest)
        if digest in self.device.arrivals:
            self.device.arrivals[digest].leaving = True
        elif resident is not None and resident.pins:
            resident.leaving = True
        elif resident is not None:
            self._evict(digest, "unload")

    def foretell(self, foretold: Sequence[Foretold]) -> None:
        """What is likely to be asked for, the hottest first; it replaces what was foretold before."""
        self._preloading.foretell(foretold)
        self.device.kept = self._preloading.pinned

    def give_up(self, size_bytes: int, *, keep: Collection[str] = ()) -> int:
        """Evict idle versions until others than adapters can use so many bytes more; what they can use more.

        The coldest leave first, and what requests wait for last; `keep` stays. Evicts nothing, and returns 0, where all
        would not do.
        """
        if size_bytes > self.memory.lent_bytes:
            return 0
        given_up, victims = 0, []
        for digest, shared in self.device.lendable():
            if given_up >= size_bytes:
                break
            if digest not in keep:
                victims.append(digest)
                given_up += shared
        if given_up < size_bytes:
            return 0
        for digest in victims:
            self._evict(digest, "capacity")
        return given_up

    def stop(self) -> None:
        """Nothing is asked for any more: the preloads that served nobody are wasted."""
        self._ledger.end_all()

    def settle(self, wanted: Iterable[AdapterVersion]) -> str | None:
        """Bring versions nearer to residence, in the order of `wanted` (the longest-waiting first).

        Finished reads get space on the device, and are copied there, as it allows; missing ones are started. Returns
        the digest of the first version that is in host memory but finds no space because all of it is pinned or wanted
        by older requests, None if there is none.
        """
        in_order = list(wanted)
        self.device.wanted = frozenset(version.digest for version in in_order)
        self.host.held = self.device.wanted | self.device.arrivals.keys()
        self._discarded -= self.device.wanted
        self._take_copied()
        self._take_read()
        blocked: str | None = None
        refused: int | None = None
        older: set[str] = set()
        for index, version in enumerate(in_order):
            digest = version.digest
            older.add(digest)
            if digest in self.device.arrivals:
                self.device.arrivals[digest].leaving = False
            if self.device.holds(digest) or self.failure(digest):
                continue
            form = self._form(digest)
            if form is None:
                # After a refusal all would be refused, but a preload's read may still go as a request's from now on.
                may_start = refused is None or self._loader.is_preload(digest)
                if may_start and not self._loader.start(version):
                    refused = index
            elif blocked is None and not self._place(version, form, protected=older):
                blocked = digest
        self._drop_unwanted()
        self._take_copied()
        if refused is not None:
            dropped = self._start_before_younger(in_order[refused], in_order[refused + 1 :])
            blocked = None if dropped == blocked else blocked
        if self._preloading.due and all(self.device.holds(digest) or self.failure(digest) for digest in older):
            self._preload()
        self._reads = {digest: read for digest, read in self._reads.items() if digest in older}
        return blocked

    def to_drain_for(self, digest: str) -> set[str]:
        """The pinned versions that must be given up for a form that is in host memory; those with fewest pins."""
        form = self._form(digest)
        return set() if form is None else self.device.to_drain_for(form)

    def _form(self, digest: str) -> NormalForm | None:
        """The form of a version that is in host memory, in the tier or with the loader."""
        form = self.host.form(digest)
        if form is None:
            read = self._loader.peek(digest)
            form = read.outcome if read is not None and isinstance(read.outcome, NormalForm) else None
        return form

    def _reload_seconds(self, size_bytes: int) -> float:
        """What a place on the device saves over one in the tier below, the same for all: they compete for that too."""
        return self._costs.expected("host" if self.host.budget_bytes else "store", size_bytes)

    def _may_begin(self, digest: str) -> bool:
        """May a preload of the version begin?"""
        return not self._loader.is_pending(digest) and self.failure(digest) is None

    def _place(self, version: AdapterVersion, form: NormalForm, protected: set[str]) -> bool:
        """Make place for a form and copy it there; False, and no change, where there is none to be had."""
        size_bytes = self.memory.bytes_for(form)
        if size_bytes > self.memory.floor_bytes:
            self._fail(version, too_large(version, size_bytes, self.memory.floor_bytes))
            return True
        victims = self.device.victims_of(form, protected)
        return victims is not None and self._copy(version, form, victims)

    def _copy(
        self, version: AdapterVersion, form: NormalForm, victims: Sequence[str], *, preload: bool = False
    ) -> bool:
        """Evict the victims, and copy a form from host memory into the place they leave; False, and no change, where
        it finds none there: victims that were chosen by their bytes need not be neighbours. A preload costs prefixes
        only where an operator wants it.
        """
        leaving = [self.device.residents[victim].reservation for victim in victims]
        over_prefixes = not preload or version.digest in self.device.kept
        if not self.memory.fits(form, leaving, over_prefixes=over_prefixes):
            return False
        for victim in victims:
            self._evict(victim, "capacity")
        digest = version.digest
        arrival = self.device.arrive(version, form, self._reads.pop(digest, None))
        if not self.host.holds(digest):
            arrival.read = self._loader.take(digest)
            self._keep_in_host(version, form)
        self.host.held |= {digest}
        self._preloading.grew(form, arrival.reservation.size_bytes)
        copy = partial(self.memory.copy, form, arrival.reservation)
        self._loader.copy(version, copy, preload=preload)
        return True

    def _take_copied(self) -> None:
        """Let finished copies be used."""
        for copied in self._loader.take_copied():
            arrival = self.device.arrivals[copied.digest]
            self._preloading.due = True
            if arrival.leaving:
                self.device.turn_away(copied.digest)
            elif isinstance(copied.outcome, LoadFailure):
                self.device.turn_away(copied.digest)
                self._fail(arrival.version, copied.outcome, seconds=copied.seconds)
            else:
                self._settle_in(arrival, copied, copied.outcome)

    def _settle_in(self, arrival: Arrival, copied: Copied, form: NormalForm) -> None:
        digest, size_bytes = copied.digest, arrival.reservation.size_bytes
        if arrival.read:
            self._costs.measured("store", size_bytes, arrival.read.seconds + copied.seconds)
        else:
            self._costs.measured("host", size_bytes, copied.seconds)
        self.device.settle_in(digest, form)
        self._failures.forget(digest)
        self._reports.loaded(arrival, copied, rank=form.rank, preload=digest in self._ledger)

    def _take_read(self) -> None:
        """Move finished reads into the host tier, remember what failed, and drop what was read for nothing.

        The last are reads that were started beside an answer that `is_cold` had not seen yet, or were unloaded.
        """
        for read in self._loader.finished():
            digest = read.version.digest
            self._preloading.due = True
            if self.device.holds(digest) or self.failure(digest) or digest in self._discarded:
                self._loader.take(digest)
                self._discarded.discard(digest)
            elif isinstance(read.outcome, LoadFailure):
                self._loader.take(digest)
                self._fail(read.version, read.outcome, seconds=read.seconds)
            elif self._keep_in_host(read.version, read.outcome):
                self._reads[digest] = self._loader.take(digest)

    def _keep_in_host(self, version: AdapterVersion, form: NormalForm) -> bool:
        """Take a form into the host tier, at the cost of colder ones; False where there is no place to be had."""
        if self.host.holds(version.digest):
            return True
        size_bytes = form.size_bytes
        victims: Iterable[str] | None
        if version.digest in self._ledger:
            candidate = PreloadCandidate(version.digest, size_bytes, self.host.reload_seconds(size_bytes))
            margin = self._ledger.confidence.margin
            preload = choose_preload([candidate], self.host, self.host.policy, self._clock(), margin)
            victims = preload.victims if preload else None
        else:
            victims = self.host.victims(size_bytes)
        if victims is None:
            return False
        for victim in victims:
            self._evict_from_host(victim, "capacity")
        self.host.add(HostEntry(version, form))
        return True

    def _drop_unwanted(self) -> None:
        """Keep what nobody waits for any more only if it costs no one else their place; a preload may be worth one."""
        for read in [*self._loader.finished(), *self._reads.values()]:
            digest = read.version.digest
            form = self._form(digest)
            if form is None or self.device.holds(digest):
                continue  # it failed after `_take_read`, and the next call takes it, or has just left for another
            if digest in self.device.wanted or digest in self._discarded:
                continue
            preload = self._preloading.still_worth(read.version, form) if digest in self._ledger else None
            copied = False
            if preload is not None:
                copied = self._copy(read.version, form, preload.victims, preload=True)
            elif digest not in self._ledger and self.memory.fits(form, over_prefixes=False):
                copied = self._place(read.version, form, protected=set())
            if not copied:
                if not self._keep_in_host(read.version, form) and digest in self._ledger:
                    self._ledger.end(digest, "wasted")
                    self._preloading.pass_over(digest)
                if self._loader.peek(digest) is not None:
                    self._loader.take(digest)

    def _start_before_younger(self, version: AdapterVersion, younger: Sequence[AdapterVersion]) -> str | None:
        """Start a read that was refused, at the cost of the youngest form that waits for space; the digest of that."""
        if self._loader.start(version):
            return None
        for other in reversed(younger):
            read = self._loader.peek(other.digest)
            if read is not None and isinstance(read.outcome, NormalForm):
                self._loader.take(other.digest)
                self._loader.start(version)
                return other.digest
        return None

    def _preload(self) -> None:
        """Begin preloads: onto the device what is worth a place there, into host memory what is worth one there.

        The latter one at a time, since what is being read has no place there yet.
        """
        under_way = sum(digest in self.device.arrivals or self._loader.is_pending(digest) for digest in self._ledger)
        while under_way < _PRELOADS_AT_A_TIME:
            preload = self._preloading.for_device() or (None if under_way else self._preloading.for_host())
            if preload is None:
                break
            version = self._preloading.version(preload.candidate.key)
            form = self.host.form(version.digest)
            if form is None and not self._loader.start(version, preload=True):
                break
            if form is not None and not self._copy(version, form, preload.victims, preload=True):
                self._preloading.pass_over(version.digest)
                continue
            self._ledger.begin(version)
            under_way += 1
        self._preloading.due = False  # the end of one of them looks again

    def _evict(self, digest: str, reason: EvictionReason) -> None:
        resident = self.device.remove(digest)
        self._preloading.due = True
        self._ledger.end(digest, "wasted")
        self._reports.evicted(resident.version, reason, resident.reservation.size_bytes, "device")

    def _evict_from_host(self, digest: str, reason: EvictionReason) -> None:
        entry = self.host.remove(digest)
        self._reads.pop(digest, None)
        if not self.device.holds(digest):
            self._ledger.end(digest, "wasted")
        self._reports.evicted(entry.version, reason, entry.form.size_bytes, "host")

    def _fail(self, version: AdapterVersion, failure: LoadFailure, *, seconds: float = 0.0) -> None:
        """Remember and report that a version cannot serve."""
        self._failures.remember(version.digest, failure)
        self._reports.failed(version, failure, seconds=seconds, preload=version.digest in self._ledger)
        self._ledger.end(version.digest, "wasted")

    def _refuse_pin(self, version: AdapterVersion, size_bytes: int) -> None:
        """An operator's pin does not fit beside the others: its version comes when it is asked for."""
        detail = (
            f"{version.name} ({size_bytes / 2**20:.1f} MiB) is pinned and does not fit beside the other pins: raise "
            "SWITCHYARD_ADAPTER_BUDGET_BYTES, or pin less"
        )
        self._reports.refused(version, detail)
