"""The work of the loader's threads, what is waited for first."""

import enum
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from server.adapters.token_bucket import TokenBucket


class Urgency(enum.IntEnum):
    """What goes first: the load that is nearest to its end, and a waiting request before any preload."""

    COPY = 0
    READ = 1
    PRELOAD_COPY = 2
    PRELOAD_READ = 3

    @property
    def preload(self) -> bool:
        return self >= Urgency.PRELOAD_COPY


@dataclass(eq=False)
class Job:
    """One piece of work for a version; `urgency` may rise while it is queued."""

    digest: str
    urgency: Urgency
    work: Callable[[], None]
    number: int = 0


class LoadQueue:
    """Jobs by urgency, then by age. Any thread may call anything.

    Preloads run on all workers but one, so that a waiting request finds one that no preload holds, and their reads only
    within `bucket`. A single worker has none to spare: there a preload begins only while nothing else is queued, and
    what is asked for then waits until it ends, since a read cannot be stopped. Reads that requests wait for may take
    all workers; a copy goes next, before any other of them.
    """

    def __init__(self, *, workers: int, bucket: TokenBucket) -> None:
        self._preload_limit = max(1, workers - 1)
        self._bucket = bucket
        self._condition = threading.Condition()
        self._numbers = itertools.count()
        self._jobs: list[Job] = []
        self._preloading = 0
        self._closed = False

    def put(self, job: Job) -> None:
        """Queue a job."""
        with self._condition:
            job.number = next(self._numbers)
            self._jobs.append(job)
            self._condition.notify_all()

    def promote(self, digest: str) -> bool:
        """Let the queued preload of a version go as if a request had asked for it; False if none is queued."""
        with self._condition:
            preloads = [job for job in self._jobs if job.digest == digest and job.urgency.preload]
            for job in preloads:
                job.urgency = Urgency.COPY if job.urgency is Urgency.PRELOAD_COPY else Urgency.READ
            self._condition.notify_all()
            return bool(preloads)

    def run_one(self) -> bool:
        """Wait for the most urgent job and do it; False once the queue is closed."""
        with self._condition:
            while True:
                if self._closed:
                    return False
                job, wait = self._next()
                if job is not None:
                    break
                self._condition.wait(wait)
            self._jobs.remove(job)
            preload = job.urgency.preload
            self._preloading += preload
        try:
            job.work()
        finally:
            with self._condition:
                self._preloading -= preload
                self._condition.notify_all()
        return True

    def close(self) -> None:
        """Begin no job any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _next(self) -> tuple[Job | None, float | None]:
        """The job to begin now, or how long none can."""
        ready = min(self._jobs, key=lambda job: (job.urgency, job.number), default=None)
        if ready is None or (ready.urgency.preload and self._preloading >= self._preload_limit):
            return None, None
        wait = self._bucket.wait() if ready.urgency is Urgency.PRELOAD_READ else 0.0
        return (None, wait) if wait else (ready, None)
