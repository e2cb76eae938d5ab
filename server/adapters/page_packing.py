"""How what an adapter consists of shares pages."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Packing:
    """`runs`: so many neighbouring pages each. `places`: of each part, its run and its offset in it, in bytes."""

    runs: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    @property
    def pages(self) -> int:
        return sum(self.runs)


def pack(sizes: Sequence[int], page_bytes: int) -> Packing:
    """Pack parts of these bytes one behind the other, on a new page where the next would not fit the last.

    Only a part that is larger than a page gets a run of several. The order stays, so that parts which are neighbours
    in host memory are neighbours on the device too and are copied at once. Sizes are multiples of the alignment, so
    that every offset is, too.
    """
    runs: list[int] = []
    places: list[tuple[int, int]] = []
    end = left = 0
    for size in sizes:
        if not runs or size > left:
            runs.append(max(1, -(-size // page_bytes)))
            end, left = 0, runs[-1] * page_bytes
        places.append((len(runs) - 1, end))
        end += size
        left -= size
    return Packing(tuple(runs), tuple(places))
