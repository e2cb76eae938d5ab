"""Which versions failed to load, and for how long nobody tries them again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from server.adapters.loader import LoadFailure

TRANSIENT_SECONDS = 1.0
PERMANENT_SECONDS = 5.0
"""The pauses after a first failure; each further one in a row doubles them."""

LONGEST_SECONDS = 60.0
_FORGOTTEN_AFTER = 2 * LONGEST_SECONDS
"""How long after its pause a failure still counts as one in a row with the next."""


@dataclass(frozen=True)
class _Failed:
    failure: LoadFailure
    until: float
    in_a_row: int


class LoadFailures:
    """Failures by digest. `current` may be called from any thread, the rest from one.

    A digest stands for its bytes, so a new publication has no past; `forget` is for files that were repaired.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, _Failed] = {}

    def current(self, digest: str) -> LoadFailure | None:
        """Why the version cannot be loaded, while its pause lasts."""
        failed = self._failed.get(digest)
        return failed.failure if failed and self._clock() < failed.until else None

    def remember(self, digest: str, failure: LoadFailure) -> None:
        """A load failed now."""
        now = self._clock()
        before = self._failed.pop(digest, None)
        in_a_row = before.in_a_row + 1 if before and now < before.until + _FORGOTTEN_AFTER else 1
        first = TRANSIENT_SECONDS if failure.transient else PERMANENT_SECONDS
        pause = min(first * 2.0 ** min(in_a_row - 1, 30), LONGEST_SECONDS)
        self._failed[digest] = _Failed(failure, now + pause, in_a_row)
        for oldest in list(self._failed):  # a pop and an insert keep the order that of the last failures
            if now < self._failed[oldest].until + _FORGOTTEN_AFTER:
                break
            del self._failed[oldest]

    def forget(self, digest: str) -> None:
        """The version loaded, or was unloaded: its next failure is a first one."""
        self._failed.pop(digest, None)
