"""How much a step, a group and a wait may be."""

from dataclasses import dataclass

from server.engine.fair_queue import Fairness
from server.engine.window import WindowMode


@dataclass(frozen=True)
class SchedulerLimits:
    """Sizes of a step and of a group; times in seconds."""

    max_rows: int
    max_batch_tokens: int
    window: float
    max_group: int
    adapter_wait_timeout: float
    window_mode: WindowMode = "fixed"
    fairness: Fairness = "tokens"
    starvation_seconds: float = 30.0

    @property
    def space_patience(self) -> float:
        """How long a loaded adapter may be kept from the device by younger groups of resident ones."""
        return min(1.0, self.adapter_wait_timeout / 10)
