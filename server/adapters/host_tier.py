"""Adapters in host memory, as they are stored: by bytes, one policy, copies of what is on the device included."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.load_costs import LoadCosts
from server.adapters.normal_form import NormalForm
from server.adapters.tier_space import victims_for
from server.engine.messages import AdapterVersion, HostContents, ResidentAdapter

LISTED = 256
"""How many versions a listing names, of thousands that may be here: it is sent several times a second."""


@dataclass(frozen=True)
class HostEntry:
    """A version in host memory."""

    version: AdapterVersion
    form: NormalForm

    @cached_property
    def listed(self) -> ResidentAdapter:
        """The version as it is told to others; it is not `pinned` here."""
        return ResidentAdapter(
            name=self.version.name,
            digest=self.version.digest,
            rank=self.form.rank,
            size_bytes=self.form.size_bytes,
            pinned=False,
        )


class HostTier:
    """At most `budget_bytes` of forms. `held` are those that may not go now: the owner says which. Keys are digests."""

    def __init__(
        self,
        budget_bytes: int,
        policy: EvictionPolicy,
        costs: LoadCosts,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.policy = policy
        self._costs = costs
        self.held: frozenset[str] = frozenset()
        self._clock = clock
        self._entries: OrderedDict[str, HostEntry] = OrderedDict()  # the longest unused first

    @property
    def free_bytes(self) -> int:
        """What can be taken without another's leaving."""
        return self.budget_bytes - self.used_bytes

    def reload_seconds(self, size_bytes: int) -> float:
        """What reading a version of so many bytes again should take."""
        return self._costs.expected("store", size_bytes)

    def holds(self, key: str) -> bool:
        """Is the version here? Safe from any thread."""
        return key in self._entries

    def asked(self, digest: str) -> None:
        """A request asks for a version, whether it is here or not."""
        self.policy.asked(digest, self._clock())
        if digest in self._entries:
            self._entries.move_to_end(digest)

    def form(self, digest: str) -> NormalForm | None:
        """The form of a version, None where it is not here."""
        entry = self._entries.get(digest)
        return entry.form if entry else None

    def victims(self, size_bytes: int) -> list[str] | None:
        """Which versions would make place for so many bytes; None where there is none to be had."""
        return victims_for(size_bytes, self.free_bytes, self.evictable()) if size_bytes <= self.budget_bytes else None

    def add(self, entry: HostEntry) -> None:
        """Take a version in, for which there is place."""
        size_bytes = entry.form.size_bytes
        assert size_bytes <= self.free_bytes
        self._entries[entry.version.digest] = entry
        self.used_bytes += size_bytes
        self.policy.admitted(entry.version.digest, size_bytes, self.reload_seconds(size_bytes), self._clock())

    def remove(self, digest: str) -> HostEntry:
        """Let a version go."""
        entry = self._entries.pop(digest)
        self.used_bytes -= entry.form.size_bytes
        self.policy.removed(digest)
        return entry

    def evictable(self) -> Iterator[tuple[str, int, float]]:
        """See `PreloadTier`."""
        for digest in self.policy.coldest(self._clock()):
            if digest not in self.held:
                size_bytes = self._entries[digest].form.size_bytes
                yield digest, size_bytes, self.reload_seconds(size_bytes)

    def listed(self) -> HostContents:
        """How many versions are here, and the `LISTED` that were used latest."""
        latest = [entry.listed for entry in islice(reversed(self._entries.values()), LISTED)]
        return HostContents(len(self._entries), latest[::-1])
