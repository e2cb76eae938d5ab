"""Which version comes nearer to the device before anybody asks for it."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from server.adapters.device_tier import DeviceTier
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.foretold import Foretold
from server.adapters.host_tier import HostTier
from server.adapters.normal_form import NormalForm
from server.adapters.preload_choice import Preload, PreloadCandidate, PreloadTier, choose_preload
from server.adapters.preload_confidence import PreloadConfidence
from server.engine.messages import AdapterVersion

_CONSIDERED = 64
"""How many of the hottest versions a look goes through: where none of them is worth a place, hardly a colder one is."""


@dataclass(frozen=True)
class _Sizes:
    """What a version takes in host memory and on the device."""

    host: int
    device: int


class Preloading:
    """The choice of preloads, from what was foretold last.

    Operators' pins come first and stand above every worth; they still respect the budget. `is_open` says of a digest
    whether a load of it may begin: it is not under way, and not known to fail. `refuse` is told once of each pin, with
    its bytes, for which there is no place beside the others. `confidence` says how much more a preload must be worth.
    """

    def __init__(
        self,
        device: DeviceTier,
        host: HostTier,
        *,
        confidence: PreloadConfidence,
        is_open: Callable[[str], bool],
        refuse: Callable[[AdapterVersion, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.due = False
        self._device = device
        self._host = host
        self._confidence = confidence
        self._is_open = is_open
        self._refuse = refuse
        self._clock = clock
        self._foretold: dict[str, Foretold] = {}
        self._refused: set[str] = set()
        self._passed_over: set[str] = set()
        self._sizes: dict[str, _Sizes] = {}
        self._growth = 2.0

    @property
    def pinned(self) -> frozenset[str]:
        """The versions that an operator wants on the device at all times."""
        return frozenset(digest for digest, one in self._foretold.items() if one.pinned)

    def foretell(self, foretold: Sequence[Foretold]) -> None:
        """Replace what was foretold before; the hottest come first."""
        self._foretold = {one.version.digest: one for one in foretold}
        self._refused &= self.pinned
        self._passed_over.clear()
        self._sizes = {digest: sizes for digest, sizes in self._sizes.items() if digest in self._foretold}
        rates = {digest: one.rate for digest, one in self._foretold.items()}
        for policy in (self._device.policy, self._host.policy):
            policy.foretold(rates, self._clock())
        self.due = True

    def forget(self, digest: str) -> None:
        """The version was unloaded: it is not brought back until it is foretold again."""
        self._foretold.pop(digest, None)

    def pass_over(self, digest: str) -> None:
        """The version found no place after all: it is not tried again until it is foretold again."""
        self._passed_over.add(digest)

    def version(self, digest: str) -> AdapterVersion:
        """A version that was chosen."""
        return self._foretold[digest].version

    def grew(self, form: NormalForm, size_bytes: int) -> None:
        """A form in host memory takes so many bytes on the device: what the next ones are expected to."""
        if form.size_bytes:
            self._growth = size_bytes / form.size_bytes

    def for_device(self) -> Preload | None:
        """The next version that deserves a place on the device, and what leaves for it."""
        for digest, one in self._foretold.items():
            if one.pinned and self._may_begin(digest) and not self._device.holds(digest):
                pin = self._on_device(one)
                victims = self._device.victims(pin.size_bytes, self._device.wanted)
                if victims is not None:
                    self._refused.discard(digest)
                    return Preload(pin, tuple(victims))
                self._refuse_beside_others(one, pin.size_bytes)
        candidates = (self._on_device(one) for one in self._open(self._device) if not one.pinned)
        return self._choose(candidates, self._device, self._device.policy)

    def for_host(self) -> Preload | None:
        """The next version that deserves a place in host memory and is nowhere nearer, and what leaves for it."""
        candidates = (
            self._in_host(one) for one in self._open(self._host) if not self._device.holds(one.version.digest)
        )
        return self._choose(candidates, self._host, self._host.policy)

    def still_worth(self, version: AdapterVersion, form: NormalForm) -> Preload | None:
        """What leaves the device for a preload that has come into host memory; None where it is not worth that.

        The version's sizes are known from now on: its file tells them only roughly.
        """
        sizes = _Sizes(form.size_bytes, self._device.memory.bytes_for(form))
        if version.digest in self._foretold:
            self._sizes[version.digest] = sizes
        candidate = self._candidate(version.digest, sizes.device)
        if version.digest in self.pinned:
            victims = self._device.victims(candidate.size_bytes, self._device.wanted)
            return None if victims is None else Preload(candidate, tuple(victims))
        return self._choose([candidate], self._device, self._device.policy)

    def _choose(
        self, candidates: Iterable[PreloadCandidate], tier: PreloadTier, policy: EvictionPolicy
    ) -> Preload | None:
        return choose_preload(candidates, tier, policy, self._clock(), self._confidence.margin)

    def _open(self, tier: PreloadTier) -> Iterator[Foretold]:
        """The hottest versions that a tier lacks, whose loads may begin."""
        lacking = (
            one
            for digest, one in self._foretold.items()
            if (one.rate > 0 or one.pinned) and not tier.holds(digest) and self._may_begin(digest)
        )
        return itertools.islice(lacking, _CONSIDERED)

    def _may_begin(self, digest: str) -> bool:
        return digest not in self._passed_over and self._is_open(digest)

    def _on_device(self, one: Foretold) -> PreloadCandidate:
        digest = one.version.digest
        form, sizes = self._host.form(digest), self._sizes.get(digest)
        if form is not None:
            return self._candidate(digest, self._device.memory.bytes_for(form))
        return self._candidate(digest, sizes.device if sizes else int(one.file_bytes * self._growth))

    def _candidate(self, digest: str, size_bytes: int) -> PreloadCandidate:
        return PreloadCandidate(digest, size_bytes, self._device.reload_seconds(size_bytes))

    def _in_host(self, one: Foretold) -> PreloadCandidate:
        sizes = self._sizes.get(one.version.digest)
        size_bytes = sizes.host if sizes else one.file_bytes
        return PreloadCandidate(one.version.digest, size_bytes, self._host.reload_seconds(size_bytes))

    def _refuse_beside_others(self, one: Foretold, size_bytes: int) -> None:
        """Say, once, that the pins alone exceed the budget; what only waits for running rows is not said."""
        residents = self._device.residents
        pinned = sum(residents[digest].reservation.size_bytes for digest in self.pinned & residents.keys())
        if pinned + size_bytes > self._device.memory.budget_bytes and one.version.digest not in self._refused:
            self._refused.add(one.version.digest)
            self._refuse(one.version, size_bytes)
