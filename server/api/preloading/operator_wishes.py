"""What operators want resident: the plan's pins and schedules, and what was pinned at run time."""

import logging
from collections.abc import Iterable
from pathlib import Path

from adapters_store.names import LATEST, AdapterRef
from server.adapters.traffic.preload_plan import PreloadPlan
from server.errors import ConfigurationError

logger = logging.getLogger(__name__)


def traffic_key(ref: AdapterRef) -> str:
    """One text for each thing that a name can mean: `name` and `name@latest` are the same."""
    return str(ref.name) if ref.effective_alias == LATEST else str(ref)


class OperatorWishes:
    """`wanted` may block and is called in a thread; pins change on the event loop.

    Raises:
        ConfigurationError: the plan's file is no plan. Later, a file that has become invalid is told in the log, and
            what it said before holds on.
    """

    def __init__(self, plan: Path | None) -> None:
        self._path = plan
        self._plan = PreloadPlan()
        self._seen: tuple[int, int, int] | None = None
        self._pins: tuple[str, ...] = ()
        if plan is not None:
            self._seen = _fingerprint(plan)
            self._plan = PreloadPlan.read(plan)

    @property
    def pins(self) -> tuple[str, ...]:
        """What was pinned at run time, in order of time."""
        return self._pins

    def pin(self, key: str) -> None:
        """Want an adapter resident from now on. Twice is once."""
        self._pins = tuple(dict.fromkeys((*self._pins, key)))

    def unpin(self, key: str) -> None:
        """Take a pin of the run time back; one that is not there is none."""
        self._pins = tuple(other for other in self._pins if other != key)

    def restore(self, pins: Iterable[str]) -> None:
        """Have the pins of the server's last life."""
        self._pins = tuple(dict.fromkeys((*pins, *self._pins)))

    def wanted(self, at: float) -> list[str]:
        """Names that are wanted at a Unix time, each once."""
        self._reread()
        return list(dict.fromkeys((*self._pins, *self._plan.wanted(at))))

    def _reread(self) -> None:
        if self._path is None:
            return
        seen = _fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._plan = PreloadPlan.read(self._path)
        except ConfigurationError as error:
            logger.warning("%s; what it said before holds on", error.message)
        else:
            logger.info("the preload plan %s has changed and was read again", self._path)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
