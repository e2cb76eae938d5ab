"""What operators want resident: the plan's pins and schedules, and what was pinned at run time."""

import logging
from pathlib import Path

from adapters_store.names import LATEST, AdapterRef
from server.adapters.traffic.preload_plan import PreloadPlan
from server.errors import ConfigurationError

logger = logging.getLogger(__name__)


def traffic_key(ref: AdapterRef) -> str:
    """One text for each thing that a name can mean: `name` and `name@latest` are the same."""
    return str(ref.name) if ref.effective_alias == LATEST else str(ref)


class OperatorWishes:
    """`pins` is what was pinned at run time, in order of time; it changes on the event loop.

    `wanted` may block and is called in a thread.

    Raises:
        ConfigurationError: the plan's file is no plan. Later, a file that has become invalid is told in the log, and
            what it said before holds on.
    """

    def __init__(self, plan: Path | None) -> None:
        self._path = plan
        self._plan = PreloadPlan()
        self._seen: tuple[int, int, int] | None = None
        self.pins: tuple[str, ...] = ()
        if plan is not None:
            self._seen = _fingerprint(plan)
            self._plan = PreloadPlan.read(plan)

    def wanted(self, at: float) -> list[str]:
        """Names that are wanted at a Unix time, each once."""
        self._reread()
        return list(dict.fromkeys((*self.pins, *self._plan.wanted(at))))

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
