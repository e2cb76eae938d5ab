"""What the processes of a server hold: memory, file descriptors and threads, read from /proc."""

import contextlib
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MiB = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Holding:
    """`resident` in bytes."""

    resident: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.resident / MiB:.0f} MiB, {self.descriptors} descriptors, {self.threads} threads"


def holding(process_id: int) -> Holding | None:
    """What a process holds now; None where it has gone."""
    directory = Path("/proc") / str(process_id)
    with contextlib.suppress(OSError):
        return Holding(
            resident=int((directory / "statm").read_text().split()[1]) * _PAGE,
            descriptors=len(list((directory / "fd").iterdir())),
            threads=len(list((directory / "task").iterdir())),
        )
    return None


def children(process_id: int) -> list[int]:
    """The children of a process, those that ended and were not waited for included."""
    found: list[int] = []
    for task in (Path("/proc") / str(process_id) / "task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def growth(samples: Sequence[Holding]) -> tuple[Holding, Holding]:
    """The medians of the first and of the last third of samples."""
    third = len(samples) // 3
    return _median(samples[:third]), _median(samples[-third:])


def _median(samples: Sequence[Holding]) -> Holding:
    return Holding(
        resident=statistics.median_low([sample.resident for sample in samples]),
        descriptors=statistics.median_low([sample.descriptors for sample in samples]),
        threads=statistics.median_low([sample.threads for sample in samples]),
    )
