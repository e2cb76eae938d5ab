"""Which hours of the day and days of the week have been lived through, and where in them a moment lies."""

from dataclasses import dataclass
from datetime import datetime, tzinfo

import numpy as np
import numpy.typing as npt

HOURS = 24
DAYS = 7
BUCKETS = HOURS + DAYS
"""A profile counts requests by hour of the day, then by day of the week."""

HOUR_SECONDS = 3600.0
ENOUGH_OF_AN_HOUR = 2 * HOUR_SECONDS
ENOUGH_OF_A_DAY = 36 * HOUR_SECONDS

_LONGEST_GAP = 28 * 24 * HOUR_SECONDS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a time lies: the hour of the day (0-23), the weekday (Monday is 0), and when that hour began and ends."""

    hour: int
    day: int
    begins: float
    ends: float

    @classmethod
    def of(cls, at: float, zone: tzinfo | None) -> "Moment":
        """The moment of a Unix time; `zone` None is the machine's own."""
        local = datetime.fromtimestamp(at, zone)
        begins = at - (local.minute * 60 + local.second + local.microsecond / 1e6)
        return cls(local.hour, local.weekday(), begins, begins + HOUR_SECONDS)

    def holds(self, at: float) -> bool:
        """Whether a time lies in the same hour."""
        return self.begins <= at < self.ends


class Exposure:
    """For how long each hour of the day and each weekday has been watched, in seconds.

    An hour of the day counts as known once it was watched for 2 hours, so on at least two days; a weekday once it was
    watched for 36 hours, so in at least two weeks. What is not known has no season: its factor is 1.
    """

    def __init__(self, zone: tzinfo | None, seconds: Floats | None = None) -> None:
        self._zone = zone
        self.seconds: Floats = np.zeros(BUCKETS) if seconds is None else seconds

    def watched(self, begin: float, end: float) -> None:
        """Add the time between two Unix times; of a long gap only the last weeks, which say as much."""
        at = max(begin, end - _LONGEST_GAP)
        while at < end:
            moment = Moment.of(at, self._zone)
            until = min(end, moment.ends)
            self.seconds[[moment.hour, HOURS + moment.day]] += until - at
            at = until

    def fade(self, factor: float) -> None:
        """Weigh what has been watched so far less."""
        self.seconds *= factor

    def share(self, bucket: int) -> float | None:
        """The share of the watched time that lies in a bucket; None where it is too little to tell."""
        of_day = bucket < HOURS
        seconds = float(self.seconds[bucket])
        if seconds < (ENOUGH_OF_AN_HOUR if of_day else ENOUGH_OF_A_DAY):
            return None
        return seconds / float(self.seconds[:HOURS].sum() if of_day else self.seconds[HOURS:].sum())
