"""Where runs of neighbouring pages find place among free ones."""

from collections.abc import Sequence


def place_runs(lengths: Sequence[int], pages: Sequence[int]) -> tuple[range, ...] | None:
    """A run of each of these lengths among `pages` (ascending), in the order of `lengths`; None where one finds none.

    The longest choose first, each takes the highest neighbours there are.
    """
    if sum(lengths) > len(pages):
        return None
    if max(lengths, default=1) == 1:
        return tuple(range(page, page + 1) for page in reversed(pages[len(pages) - len(lengths) :]))
    gaps = _gaps_from_the_highest(pages)
    places: dict[int, range] = {}
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        at = next((at for at, gap in enumerate(gaps) if len(gap) >= length), None)
        if at is None:
            return None
        gap = gaps[at]
        places[index] = gap[len(gap) - length :]
        if len(gap) > length:
            gaps[at] = gap[: len(gap) - length]
        else:
            del gaps[at]
    return tuple(places[index] for index in range(len(lengths)))


def _gaps_from_the_highest(pages: Sequence[int]) -> list[range]:
    gaps: list[range] = []
    for page in reversed(pages):
        if gaps and gaps[-1].start == page + 1:
            gaps[-1] = range(page, gaps[-1].stop)
        else:
            gaps.append(range(page, page + 1))
    return gaps
