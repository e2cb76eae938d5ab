"""Which adapters are in use, as far as the API process can tell: what requests ask for, and what the engine reports."""

import time
from collections import OrderedDict
from collections.abc import Callable

from adapters_store import Version
from server.api.routing.model_names import Target
from server.api.routing.rank_tiers import Demand
from server.engine.messages import EngineState

IN_USE_SECONDS = 60.0
"""How long an adapter counts as in use after a request for it."""

_REMEMBERED_SIZES = 4096
_BYTES_AT_MOST = 4


class AdapterDemand:
    """Follows requests and the engine's snapshots. `state` gives the last one, None where there is none."""

    def __init__(self, state: Callable[[], EngineState | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._asked: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._mirrored: OrderedDict[str, float] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def asked_for(self, target: Target) -> None:
        """A request for a target has come."""
        if target.version is not None:
            digest = target.version.digest
            self._asked[digest] = (self._clock(), self.size_of(target))
            self._asked.move_to_end(digest)
            self._forget()

    def mirrored(self, digest: str) -> None:
        """A copy of a request runs on a version. The row that it takes is no use: it makes way for every answer."""
        self._mirrored[digest] = self._clock()
        self._mirrored.move_to_end(digest)

    def size_of(self, target: Target) -> int:
        """Bytes of a target on the device: as the engine last reported it, else at most what its weights can take."""
        version = target.version
        if version is None:
            return 0
        return self._sizes.get(version.digest, _bytes_at_most(version))

    def now(self, budget_bytes: int) -> Demand:
        """The adapters in use now. `budget_bytes` is the device's budget for adapters."""
        self._forget()
        state = self._state()
        sizes = {digest: self._sizes.get(digest, size) for digest, (_, size) in self._asked.items()}
        if state is None:
            return Demand(budget_bytes, sizes)
        for adapter in state.resident:
            self._remember(adapter.digest, adapter.size_bytes)
            if (adapter.pinned and adapter.digest not in self._mirrored) or adapter.digest in sizes:
                sizes[adapter.digest] = adapter.size_bytes
        resident = {adapter.name for adapter in state.resident}
        return Demand(state.adapter_budget_bytes, sizes, frozenset(state.waiting_adapters) - resident)

    def _remember(self, digest: str, size_bytes: int) -> None:
        self._sizes[digest] = size_bytes
        self._sizes.move_to_end(digest)
        if len(self._sizes) > _REMEMBERED_SIZES:
            self._sizes.popitem(last=False)

    def _forget(self) -> None:
        end = self._clock() - IN_USE_SECONDS
        while self._asked and next(iter(self._asked.values()))[0] < end:
            self._asked.popitem(last=False)
        while self._mirrored and next(iter(self._mirrored.values())) < end:
            self._mirrored.popitem(last=False)


def _bytes_at_most(version: Version) -> int:
    """Bytes on the device before they are known: 32 bits an element, the widest that the device holds."""
    return version.metadata.parameters * _BYTES_AT_MOST
