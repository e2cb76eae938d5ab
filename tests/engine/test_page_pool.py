"""Who may hold which page, and what each can always have."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from server.engine.page_pool import PagePool, Runs

KV_FLOOR, SHARED, ADAPTER_FLOOR = 4, 6, 5
KV_LIMIT, TOTAL = KV_FLOOR + SHARED, KV_FLOOR + SHARED + ADAPTER_FLOOR

lengths = st.lists(st.integers(1, 3), min_size=1, max_size=4)


def pool() -> PagePool:
    return PagePool(kv_floor=KV_FLOOR, shared=SHARED, adapter_floor=ADAPTER_FLOOR)


def adapter(pages: PagePool, *run_lengths: int) -> Runs:
    runs = pages.take_runs(run_lengths)
    assert runs is not None
    return runs


def kv(pages: PagePool, count: int) -> list[int]:
    taken = pages.take(count)
    assert taken is not None
    return taken


@dataclass(eq=False)
class Adapter:
    runs: Runs


class PagePoolMachine(RuleBasedStateMachine):
    """Rows and adapters that come and go in any order, beside a model that knows the holder of every page."""

    adapters = Bundle("adapters")

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool()
        self.pool.on_forget = self.forget
        self.kv: list[int] = []
        self.kept: list[int] = []
        self.lent: set[int] = set()

    def forget(self, page: int) -> None:
        self.kept.remove(page)
        self.forgotten.append(page)

    def free(self) -> set[int]:
        return {*range(1, TOTAL + 1)} - {*self.kv, *self.kept} - self.lent

    @rule(count=st.integers(0, TOTAL))
    def take(self, count: int) -> None:
        before, free = [*self.kept], sum(page <= KV_LIMIT for page in self.free())
        self.forgotten: list[int] = []
        pages = self.pool.take(count)
        assert (pages is None) == (count > free + len(before))
        assert self.forgotten == before[: max(0, count - free) if pages is not None else 0]
        self.kv += pages or []

    @rule(data=st.data())
    def end_row(self, data: st.DataObject) -> None:
        for page in data.draw(st.sets(st.sampled_from(self.kv))) if self.kv else ():
            self.kv.remove(page)
            if data.draw(st.booleans()):
                self.pool.keep(page)
                self.kept.append(page)
            else:
                self.pool.put_back(page)

    @rule(data=st.data())
    def reuse(self, data: st.DataObject) -> None:
        if self.kept:
            page = data.draw(st.sampled_from(self.kept))
            self.pool.use_again(page)
            self.kept.remove(page)
            self.kv.append(page)

    @rule(target=adapters, lengths=lengths, leaving=st.lists(adapters, max_size=3, unique=True))
    def load(self, lengths: list[int], leaving: list[Adapter]) -> object:
        before, fits = [*self.kept], self.pool.fits(lengths)
        places = self.pool.places(lengths, [run for one in leaving for run in one.runs])
        if places is not None:
            in_the_way = [run for one in leaving for run in one.runs if any({*run} & {*place} for place in places)]
            assert self.pool.places(lengths, in_the_way) == places
        self.forgotten = []
        runs = self.pool.take_runs(lengths)
        assert (runs is not None) == fits
        assert [page for page in before if page > KV_FLOOR][: len(self.forgotten)] == self.forgotten
        if runs is None:
            assert not self.forgotten
            return multiple()
        assert [len(run) for run in runs] == lengths
        self.lent.update(page for run in runs for page in run)
        return Adapter(runs)

    @rule(leaving=consumes(adapters), lengths=lengths)
    def unload(self, leaving: Adapter, lengths: list[int]) -> None:
        would_fit = self.pool.fits(lengths, leaving.runs)
        shared = sum(page <= KV_LIMIT for run in leaving.runs for page in run)
        available = self.pool.kv_available
        assert self.pool.shared_in(leaving.runs) == shared
        self.pool.give_back(leaving.runs)
        self.lent.difference_update(page for run in leaving.runs for page in run)
        assert self.pool.fits(lengths) == would_fit
        assert self.pool.kv_available == available + shared

    @invariant()
    def every_page_has_one_holder(self) -> None:
        self.pool.check()
        assert (self.pool.in_use, self.pool.kept, self.pool.adapters) == (len(self.kv), len(self.kept), len(self.lent))
        assert 0 not in self.lent | {*self.kv, *self.kept}

    @invariant()
    def floors_hold_whatever_the_other_does(self) -> None:
        assert self.pool.kv_available + len(self.kv) >= KV_FLOOR
        assert self.pool.adapters_available + len(self.lent) >= ADAPTER_FLOOR
        assert len(self.kv) <= TOTAL - ADAPTER_FLOOR
        assert len(self.lent) <= TOTAL - KV_FLOOR
        if not self.lent:
            assert self.pool.fits([ADAPTER_FLOOR])


PagePoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPagePoolAgainstItsModel = PagePoolMachine.TestCase


def test_either_takes_all_but_the_floor_of_the_other() -> None:
    for_adapters, for_rows = pool(), pool()
    assert for_adapters.fits([TOTAL - KV_FLOOR])
    assert for_adapters.take_runs([1] * (TOTAL - KV_FLOOR + 1)) is None
    adapter(for_adapters, TOTAL - KV_FLOOR)
    assert for_adapters.kv_available == KV_FLOOR
    assert for_rows.take(TOTAL - ADAPTER_FLOOR + 1) is None
    kv(for_rows, TOTAL - ADAPTER_FLOOR)
    assert for_rows.adapters_available == ADAPTER_FLOOR
    assert for_rows.fits([ADAPTER_FLOOR])


def test_without_shared_pages_each_has_its_own() -> None:
    pages = PagePool(kv_floor=2, adapter_floor=2)
    adapter(pages, 2)
    assert kv(pages, 2) == [1, 2]
    assert pages.take(1) is None
    assert pages.take_runs([1]) is None


def test_rows_take_the_lowest_pages_and_adapters_the_highest() -> None:
    pages = pool()
    assert adapter(pages, 1, 2) == (range(13, 14), range(14, 16))
    assert kv(pages, 2) == [1, 2]
    pages.put_back(1)
    assert kv(pages, 1) == [1]


def test_an_adapter_costs_only_as_many_prefixes_as_it_must_and_the_oldest_first() -> None:
    pages, forgotten = pool(), list[int]()
    pages.on_forget = forgotten.append
    rows = kv(pages, KV_LIMIT)
    for page in reversed(rows):
        pages.keep(page)
    adapter(pages, ADAPTER_FLOOR)
    assert forgotten == []
    adapter(pages, 1, 1)
    assert forgotten == [10, 9]
    adapter(pages, 3)
    assert forgotten == [10, 9, 8, 7, 6]


def test_prefixes_within_the_floor_are_no_adapters_to_take() -> None:
    pages, forgotten = pool(), list[int]()
    pages.on_forget = forgotten.append
    for page in kv(pages, KV_FLOOR):
        pages.keep(page)
    adapter(pages, *[1] * (TOTAL - KV_FLOOR))
    assert pages.take_runs([1]) is None
    assert forgotten == []


def test_a_run_that_finds_no_neighbours_costs_nothing() -> None:
    pages, forgotten = PagePool(kv_floor=1, shared=4, adapter_floor=1), list[int]()
    pages.on_forget = forgotten.append
    rows = kv(pages, 5)
    pages.keep(rows[2])
    pages.put_back(rows[4])
    assert pages.adapters_available == 3
    assert pages.take_runs([3]) is None
    assert forgotten == []
    adapter(pages, 2)
    assert forgotten == []


@given(st.lists(lengths, max_size=4))
def test_what_the_floor_holds_by_its_sum_fits_when_no_adapter_is_there(adapters: list[list[int]]) -> None:
    pages = pool()
    kv(pages, KV_LIMIT)
    for run_lengths in adapters:
        if sum(run_lengths) <= ADAPTER_FLOOR:
            pages.give_back(adapter(pages, *run_lengths))
