"""Examples into rows of bounded length, so that little of a batch is padding."""

from collections.abc import Sequence

__all__ = ["first_fit_decreasing"]


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices into `lengths`, of at most `capacity` together: the longest first, each into the first row with
    room. Equal lengths keep their order. O(n log n).

    Raises:
        ValueError: a length is negative or larger than `capacity`.
    """
    if any(not 0 <= length <= capacity for length in lengths):
        raise ValueError(f"every length must be within 0 and {capacity}; cut the examples first")
    rows: list[list[int]] = []
    room = _Room(len(lengths), capacity)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = room.take(lengths[index])
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
    return rows


class _Room:
    """What is left in each of `count` rows, as a tree of maxima, so that the first row with room is found at once."""

    def __init__(self, count: int, capacity: int) -> None:
        self._leaves = 1 << max(0, (count - 1).bit_length())
        self._most = [capacity] * (2 * self._leaves)

    def take(self, length: int) -> int:
        """The first row with room for `length`, from which it is taken. An unused row has room for any."""
        node = 1
        while node < self._leaves:
            node *= 2
            if self._most[node] < length:
                node += 1
        row = node - self._leaves
        self._most[node] -= length
        while node := node // 2:
            self._most[node] = max(self._most[2 * node], self._most[2 * node + 1])
        return row
