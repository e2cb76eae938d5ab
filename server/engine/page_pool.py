"""Which page of the device's memory belongs to whom: to keys and values, to an adapter, or to nobody.

Pure Python; the memory itself is a buffer of the runner. Pages are numbered from 1. The lowest `kv_floor` pages only
ever hold keys and values, the highest `adapter_floor` only adapters, those between (`shared`) whichever needs them.
That the floors are places, and not just counts, is what makes them certain: no row that runs can lie in the way of an
adapter's run of neighbouring pages, and nothing has to be moved.

Keys and values take the lowest free page and adapters the highest, so that both leave the middle whole.

Invariants: every page is exactly one of free / in use by keys and values / kept for its prefix / an adapter's; no
page beyond `kv_limit` holds keys and values and none up to `kv_floor` an adapter.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from server.engine.page_runs import place_runs

Runs = tuple[range, ...]
"""Pages that were given out in runs of neighbours."""


class PagePool:
    """Gives pages out and takes them back. `page_bytes` is the size of one."""

    def __init__(self, *, kv_floor: int, adapter_floor: int = 0, shared: int = 0, page_bytes: int = 1) -> None:
        self.kv_floor = kv_floor
        self.kv_limit = kv_floor + shared
        self.adapter_floor = adapter_floor
        self.total = self.kv_limit + adapter_floor
        self.page_bytes = page_bytes
        self.on_forget: Callable[[int], None] = lambda _page: None
        """Called for each page that was kept for its prefix and is now taken by another."""
        self._free = [*range(1, self.total + 1)]
        self._kv: set[int] = set()
        self._kept: OrderedDict[int, None] = OrderedDict()  # the longest unused first
        self._kept_shared = 0
        self._adapters: set[int] = set()
        self._lent = 0

    @property
    def in_use(self) -> int:
        """Pages with keys and values of running rows."""
        return len(self._kv)

    @property
    def kept(self) -> int:
        """Pages that are kept for the prefix they hold, until somebody needs them."""
        return len(self._kept)

    @property
    def adapters(self) -> int:
        """Pages that adapters hold."""
        return len(self._adapters)

    @property
    def lent(self) -> int:
        """Pages that adapters hold and that keys and values could use in their place."""
        return self._lent

    @property
    def adapter_limit(self) -> int:
        """The most pages that adapters may ever hold."""
        return self.total - self.kv_floor

    @property
    def kv_available(self) -> int:
        """Pages that `take` can give out now."""
        return bisect_right(self._free, self.kv_limit) + len(self._kept)

    @property
    def adapters_free(self) -> int:
        """Pages that adapters could have and that nobody holds, not even for a prefix."""
        return len(self._free) - bisect_right(self._free, self.kv_floor)

    @property
    def adapters_available(self) -> int:
        """Pages that `take_runs` can give out now, if they need not be neighbours."""
        return self.adapters_free + self._kept_shared

    def take(self, count: int) -> list[int] | None:
        """Pages for keys and values, kept prefixes last; None, and no change, where there are too few."""
        if count > self.kv_available:
            return None
        lacking = count - bisect_right(self._free, self.kv_limit)
        for page in [*islice(self._kept, max(0, lacking))]:
            self._forget(page)
        pages = self._free[:count]
        del self._free[:count]
        self._kv.update(pages)
        return pages

    def keep(self, page: int) -> None:
        """A page in use is needed no more but for the prefix it holds."""
        self._kv.remove(page)
        self._kept[page] = None
        self._kept_shared += page > self.kv_floor

    def is_kept(self, page: int) -> bool:
        return page in self._kept

    def use_again(self, page: int) -> None:
        """Put a kept page to use for the prefix it holds."""
        del self._kept[page]
        self._kept_shared -= page > self.kv_floor
        self._kv.add(page)

    def put_back(self, page: int) -> None:
        """A page in use is needed no more."""
        self._kv.remove(page)
        insort(self._free, page)

    def fits(self, lengths: Sequence[int], beside: Iterable[range] = (), *, over_prefixes: bool = True) -> bool:
        """Would `take_runs` succeed if the runs `beside` were given back before, and, unless `over_prefixes`, cost no
        prefix?
        """
        return self.places(lengths, beside, over_prefixes=over_prefixes) is not None

    def places(
        self, lengths: Sequence[int], beside: Iterable[range] = (), *, over_prefixes: bool = True
    ) -> Runs | None:
        """Where runs would find place if those `beside` were given back before: there, too, if only those were that
        lie in the way of it. None where they find none.
        """
        kept = self._kept_beyond_floor() if over_prefixes else []
        return self._placed(lengths, [*kept, *(page for run in beside for page in run)])

    def take_runs(self, lengths: Sequence[int]) -> Runs | None:
        """Runs of so many neighbouring pages for an adapter, in this order; None, and no change, where they lack.

        Kept prefixes are given up where free pages do not do, the longest unused first.
        """
        runs = self._placed(lengths)
        if runs is None:
            kept = self._kept_beyond_floor()
            runs = self._placed(lengths, kept)
            if runs is None:
                return None
            too_few, enough = 0, len(kept)
            while too_few + 1 < enough:
                middle = (too_few + enough) // 2
                fewer = self._placed(lengths, kept[:middle])
                if fewer is None:
                    too_few = middle
                else:
                    enough, runs = middle, fewer
            for page in kept[:enough]:
                self._forget(page)
        taken = {page for run in runs for page in run}
        self._free = [page for page in self._free if page not in taken]
        self._adapters |= taken
        self._lent += self.shared_in(runs)
        return runs

    def shared_in(self, runs: Runs) -> int:
        """How many pages of an adapter's runs keys and values could use in its place."""
        return sum(page <= self.kv_limit for run in runs for page in run)

    def give_back(self, runs: Runs) -> None:
        """Take an adapter's pages back."""
        for run in runs:
            self._adapters.difference_update(run)
            at = bisect_left(self._free, run.start)
            self._free[at:at] = run
        self._lent -= self.shared_in(runs)

    def _placed(self, lengths: Sequence[int], beside: Sequence[int] = ()) -> Runs | None:
        """Where the runs of an adapter go among the free pages and those `beside`."""
        free = self._free[bisect_right(self._free, self.kv_floor) :]
        if sum(lengths) > len(free) + len(beside):
            return None
        return place_runs(lengths, sorted([*free, *beside]))

    def _kept_beyond_floor(self) -> list[int]:
        """Kept pages that adapters may have, the longest unused first."""
        return [page for page in self._kept if page > self.kv_floor]

    def _forget(self, page: int) -> None:
        del self._kept[page]
        self._kept_shared -= page > self.kv_floor
        insort(self._free, page)
        self.on_forget(page)

    def check(self) -> None:
        """Raise AssertionError unless the invariants of this module hold."""
        holders = [*self._free, *self._kv, *self._kept, *self._adapters]
        assert sorted(holders) == [*range(1, self.total + 1)]
        assert self._free == sorted(self._free)
        assert all(page <= self.kv_limit for page in (*self._kv, *self._kept))
        assert all(page > self.kv_floor for page in self._adapters)
        assert self._kept_shared == sum(page > self.kv_floor for page in self._kept)
        assert self.kv_available + self.in_use == self.kv_limit - self._lent
