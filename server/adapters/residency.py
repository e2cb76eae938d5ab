"""Which adapter versions are on the device: an LRU by bytes at true ranks, with pins.

A version is cold, loading (in the loader), resident, or pinned (resident and used by a running row). Only the
engine thread calls this; the loader's threads only hand over finished forms.

Invariants: resident bytes never exceed the budget; a pinned version is never evicted; a version that an older
request waits for is not evicted for a younger one, so the oldest request always gets its turn.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from server.adapters.loader import AdapterLoader, Loaded, LoadFailure
from server.adapters.normal_form import NormalForm
from server.engine.messages import (
    AdapterVersion,
    EvictionReason,
    EvictionReport,
    LoadReport,
    Report,
    ResidentAdapter,
)

_log = logging.getLogger(__name__)

FAILURE_MEMORY_SECONDS = 5.0
"""How long a failed load answers for further requests before it is tried again."""


@dataclass
class _Entry:
    version: AdapterVersion
    form: NormalForm
    pins: int = 0
    unload: bool = False


class Residency:
    """The device tier. `budget_bytes` is its size; `report` receives loads and evictions.

    `to_device` copies a loaded form, which lies in host memory, onto the device.
    """

    def __init__(
        self,
        loader: AdapterLoader,
        *,
        budget_bytes: int,
        to_device: Callable[[NormalForm], NormalForm] = lambda form: form,
        report: Callable[[Report], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._loader = loader
        self._to_device = to_device
        self._report = report
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._failures: dict[str, tuple[LoadFailure, float]] = {}

    def is_resident(self, digest: str) -> bool:
        """Is the version on the device? Safe from any thread."""
        return digest in self._entries

    def is_cold(self, digest: str) -> bool:
        """Is it worth loading the version now: not on the device, and not known to fail? Safe from any thread.

        The answer may be out of date at once: a load that is then started for nothing is dropped when it ends.
        """
        return digest not in self._entries and self.failure(digest) is None

    def failure(self, digest: str) -> LoadFailure | None:
        """Why the version could not be loaded, while that is remembered."""
        failed = self._failures.get(digest)
        return failed[0] if failed and self._clock() < failed[1] else None

    def pin(self, digest: str) -> NormalForm:
        """Use a resident version in a running row; it stays until as many `unpin`."""
        entry = self._entries[digest]
        entry.pins += 1
        entry.unload = False
        self._entries.move_to_end(digest)
        return entry.form

    def unpin(self, digest: str) -> None:
        """Give back one `pin`."""
        entry = self._entries[digest]
        entry.pins -= 1
        if entry.unload and not entry.pins:
            self._evict(digest, "unload")

    def form(self, digest: str) -> NormalForm:
        """The form of a resident version."""
        return self._entries[digest].form

    def unload(self, digest: str) -> None:
        """Drop a version now, or when its last pin goes."""
        entry = self._entries.get(digest)
        if entry is None:
            return
        if entry.pins:
            entry.unload = True
        else:
            self._evict(digest, "unload")

    def settle(self, wanted: Iterable[AdapterVersion]) -> str | None:
        """Bring versions nearer to residence, in the order of `wanted` (the longest-waiting first).

        Finished loads come onto the device as space allows, missing ones are started. Returns the digest of
        the first version that is loaded but finds no space because all of it is pinned or wanted by older
        requests, None if there is none.
        """
        self._take_failures()
        in_order = list(wanted)
        blocked: str | None = None
        refused: int | None = None
        older: set[str] = set()
        for index, version in enumerate(in_order):
            digest = version.digest
            older.add(digest)
            if digest in self._entries or self.failure(digest):
                continue
            loaded = self._loader.peek(digest)
            if loaded is None:
                if not self._loader.start(version) and refused is None:
                    refused = index
            elif isinstance(loaded.outcome, LoadFailure):
                continue  # it ended after `_take_failures`; the next call takes it
            elif blocked is None and not self._place(loaded, loaded.outcome, protected=older):
                blocked = digest
        self._drop_unwanted(older)
        if refused is not None:
            dropped = self._start_before_younger(in_order[refused], in_order[refused + 1 :])
            return None if dropped == blocked else blocked
        return blocked

    def to_drain_for(self, digest: str) -> set[str]:
        """The pinned versions that must be given up so that a finished load finds space; those with fewest pins."""
        loaded = self._loader.peek(digest)
        if loaded is None or isinstance(loaded.outcome, LoadFailure):
            return set()
        lacking = loaded.outcome.size_bytes - (self.budget_bytes - self.used_bytes)
        draining: set[str] = set()
        for candidate, entry in sorted(self._entries.items(), key=lambda item: item[1].pins):
            if lacking <= 0:
                break
            draining.add(candidate)
            lacking -= entry.form.size_bytes
        return draining

    def resident(self) -> list[ResidentAdapter]:
        """All versions on the device, the least recently used first."""
        return [
            ResidentAdapter(
                name=entry.version.name,
                digest=digest,
                rank=entry.form.rank,
                size_bytes=entry.form.size_bytes,
                pinned=entry.pins > 0,
            )
            for digest, entry in self._entries.items()
        ]

    @property
    def pins(self) -> int:
        """Pins held now, over all versions."""
        return sum(entry.pins for entry in self._entries.values())

    def _place(self, loaded: Loaded, form: NormalForm, protected: set[str]) -> bool:
        if not self._make_space(form.size_bytes, protected):
            return False
        digest = loaded.version.digest
        self._loader.take(digest)
        self._entries[digest] = _Entry(loaded.version, self._to_device(form))
        self.used_bytes += form.size_bytes
        self._report_load(loaded, form)
        return True

    def _make_space(self, size_bytes: int, protected: set[str]) -> bool:
        """Evict the least recently used until `size_bytes` fit; evicts nothing when that cannot succeed."""
        victims = []
        free = self.budget_bytes - self.used_bytes
        for digest, entry in self._entries.items():
            if free >= size_bytes:
                break
            if not entry.pins and digest not in protected:
                victims.append(digest)
                free += entry.form.size_bytes
        if free < size_bytes:
            return False
        for digest in victims:
            self._evict(digest, "capacity")
        return True

    def _evict(self, digest: str, reason: EvictionReason) -> None:
        entry = self._entries.pop(digest)
        self.used_bytes -= entry.form.size_bytes
        _log.info("evicted %s (%s)", entry.version.name, reason)
        self._report(
            EvictionReport(name=entry.version.name, digest=digest, reason=reason, size_bytes=entry.form.size_bytes)
        )

    def _take_failures(self) -> None:
        """Remember what failed; drop loads that were started beside an answer that `is_cold` had not seen yet."""
        now = self._clock()
        self._failures = {digest: failed for digest, failed in self._failures.items() if failed[1] > now}
        for loaded in self._loader.finished():
            if loaded.version.digest in self._entries or loaded.version.digest in self._failures:
                self._loader.take(loaded.version.digest)
            elif isinstance(loaded.outcome, LoadFailure):
                self._loader.take(loaded.version.digest)
                self._failures[loaded.version.digest] = (loaded.outcome, now + FAILURE_MEMORY_SECONDS)
                self._report_load(loaded, None)

    def _drop_unwanted(self, wanted: set[str]) -> None:
        """Keep what nobody waits for any more only if it costs no one else their place."""
        for loaded in self._loader.finished():
            form = loaded.outcome
            digest = loaded.version.digest
            if digest in wanted or digest in self._entries or isinstance(form, LoadFailure):
                continue
            if form.size_bytes <= self.budget_bytes - self.used_bytes:
                self._place(loaded, form, protected=set())
            else:
                self._loader.take(loaded.version.digest)

    def _start_before_younger(self, version: AdapterVersion, younger: Sequence[AdapterVersion]) -> str | None:
        """Start a load that was refused, at the cost of the youngest form that waits for space; the digest of that."""
        if self._loader.start(version):
            return None
        for other in reversed(younger):
            loaded = self._loader.peek(other.digest)
            if loaded is not None and isinstance(loaded.outcome, NormalForm):
                self._loader.take(other.digest)
                self._loader.start(version)
                return other.digest
        return None

    def _report_load(self, loaded: Loaded, form: NormalForm | None) -> None:
        if isinstance(loaded.outcome, LoadFailure):
            _log.warning("%s: %s", loaded.outcome.reason, loaded.outcome.detail)
        elif form is not None:
            size = form.size_bytes / 2**20
            _log.info("loaded %s (%.1f MiB) in %.0f ms", loaded.version.name, size, 1000 * loaded.seconds)
        self._report(
            LoadReport(
                name=loaded.version.name,
                digest=loaded.version.digest,
                seconds=loaded.seconds,
                size_bytes=form.size_bytes if form else 0,
                rank=form.rank if form else 0,
                failure=loaded.outcome.reason if isinstance(loaded.outcome, LoadFailure) else None,
            )
        )
