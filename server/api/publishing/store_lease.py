"""This server's lease on the versions that it uses, so that a collection of the store leaves them alone."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from adapters_store import AdapterStore, StoreBusy, StoreFull, Version
from adapters_store.lease import LEASE_SECONDS, Lease, resolve_leased
from adapters_store.names import AdapterRef

logger = logging.getLogger(__name__)

# A version that nobody asked for so long, and that is not on the device, is given back.
_WINDOW_SECONDS: Final = 15 * 60.0
_RENEWAL_SECONDS: Final = LEASE_SECONDS / 4
_FAILURES: Final = (StoreBusy, StoreFull, OSError)


class StoreLease:
    """Holds every version that a request resolved lately, and those that are on the device.

    A lease that cannot be written stops no request: whoever loads a version checks it, so a version that was collected
    in spite of it is an error of that request and never wrong weights.
    """

    def __init__(
        self, store: AdapterStore, resident: Callable[[], Iterable[str]], *, renewal: float = _RENEWAL_SECONDS
    ) -> None:
        self._store = store
        self._resident = resident
        self._renewal = renewal
        self._lease = Lease(store.leases, window=_WINDOW_SECONDS)
        self._pause_until = 0.0

    def resolve(self, ref: AdapterRef) -> Version:
        """What `ref` means now, held from here on. One stat where it is held already; blocks, so call it in a thread.

        Raises:
            UnknownAdapter, CorruptVersion: as `AdapterStore.resolve` does.
        """
        if time.monotonic() < self._pause_until:
            return self._store.resolve(ref)
        try:
            return resolve_leased(self._store, self._lease, ref)
        except _FAILURES as error:
            self._pause(error)
            return self._store.resolve(ref)

    async def keep(self) -> None:
        """Renew the lease until cancelled, and give it up then."""
        try:
            while True:
                await asyncio.sleep(self._renewal)
                await asyncio.to_thread(self._renew)
        finally:
            # Not awaited: a disk that hangs must not hold up the end.
            asyncio.get_running_loop().run_in_executor(None, self._end)

    def _renew(self) -> None:
        try:
            self._lease.renew(self._resident())
            self._pause_until = 0.0
        except _FAILURES as error:
            self._pause(error)

    def _end(self) -> None:
        try:
            self._lease.end()
        except OSError as error:
            logger.warning("the lease on the store could not be given up, and lapses: %s", error.strerror)

    def _pause(self, error: Exception) -> None:
        """Let no request wait for what has just failed."""
        self._pause_until = time.monotonic() + self._renewal
        reason = error.strerror if isinstance(error, OSError) else error
        logger.warning("the lease on the store could not be renewed, collections may take what is served: %s", reason)
