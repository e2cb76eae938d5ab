"""What residency says of itself: a report to the observer and a line in the log for each load and eviction."""

import logging
from collections.abc import Callable

from server.adapters.device_tier import Arrival
from server.adapters.loader import Copied, LoadFailure
from server.engine.messages import AdapterVersion, EvictionReason, EvictionReport, LoadReport, Report, Tier

_log = logging.getLogger(__name__)


class ResidencyReports:
    """Writes to `report`."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report

    def loaded(self, arrival: Arrival, copied: Copied, *, rank: int, preload: bool) -> None:
        """A version may be used. It came from the store if it was read for this."""
        read, size_bytes = arrival.read, arrival.reservation.size_bytes
        seconds = copied.seconds + (read.seconds if read else 0.0)
        _log.info("loaded %s (%.1f MiB) in %.0f ms", arrival.version.name, size_bytes / 2**20, 1000 * seconds)
        self._report(
            LoadReport(
                name=arrival.version.name,
                digest=copied.digest,
                seconds=seconds,
                size_bytes=size_bytes,
                rank=rank,
                source="store" if read else "host",
                hash_seconds=read.hash_seconds if read else 0.0,
                read_seconds=read.read_seconds if read else 0.0,
                copy_seconds=copied.seconds,
                preload=preload,
            )
        )

    def failed(self, version: AdapterVersion, failure: LoadFailure, *, seconds: float, preload: bool) -> None:
        """A version cannot serve."""
        _log.warning("%s: %s", failure.reason, failure.detail)
        self._report(
            LoadReport(
                name=version.name,
                digest=version.digest,
                seconds=seconds,
                size_bytes=0,
                rank=0,
                failure=failure.reason,
                preload=preload,
            )
        )

    def refused(self, version: AdapterVersion, detail: str) -> None:
        """An operator's pin is not followed. No load failed, and no request was hurt: it is said in the log alone."""
        _log.warning("pin of %s refused: %s", version.digest, detail)

    def evicted(self, version: AdapterVersion, reason: EvictionReason, size_bytes: int, tier: Tier) -> None:
        """A version left a tier."""
        _log.info("evicted %s from the %s tier (%s)", version.name, tier, reason)
        self._report(
            EvictionReport(name=version.name, digest=version.digest, reason=reason, size_bytes=size_bytes, tier=tier)
        )
