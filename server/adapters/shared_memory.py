"""Adapters in the pages that keys and values use too: one budget, and memory that is really shared.

After S-LoRA's unified paging (Sheng et al., arXiv:2311.03285). A tensor lies in one page, or in neighbouring ones where
it is larger, so that it stays an ordinary tensor: a view of the one buffer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from server.adapters.device_memory import Reservation
from server.adapters.form_spans import FormSpans, Place, Span, form_spans
from server.adapters.normal_form import LinearForm, NormalForm
from server.adapters.page_packing import Packing, pack
from server.engine.page_layout import aligned
from server.engine.page_pool import PagePool, Runs


@dataclass(frozen=True)
class _Plan:
    """What a form consists of, how that shares pages, and what is copied at once, each with the span it begins with."""

    parts: FormSpans
    packing: Packing
    copies: tuple[tuple[int, torch.Tensor], ...]


@dataclass(frozen=True, eq=False)
class PageReservation:
    """The pages of one adapter."""

    runs: Runs
    size_bytes: int
    shared_bytes: int


class SharedMemory:
    """A `DeviceMemory` of whole pages.

    Args:
        pages: who holds which page.
        memory: the pages themselves, uint8 [1 + pages, page bytes].
        dtype: the number format that adapters take on the device.
        copy: writes the first of two flat tensors, which is in the pages, with the numbers of the second.
    """

    def __init__(
        self,
        pages: PagePool,
        memory: torch.Tensor,
        dtype: torch.dtype,
        copy: Callable[[torch.Tensor, torch.Tensor], object] = torch.Tensor.copy_,
    ) -> None:
        self._copy = copy
        self._pages = pages
        self._elements = memory.view(-1).view(dtype)
        self._plans: WeakKeyDictionary[NormalForm, _Plan] = WeakKeyDictionary()
        """Filled by the threads that read, so that the engine's only looks plans up."""

    @property
    def budget_bytes(self) -> int:
        """The most that adapters may ever take together."""
        return self._pages.adapter_limit * self._pages.page_bytes

    @property
    def floor_bytes(self) -> int:
        """What adapters can always have together: the pages that keys and values never take."""
        return self._pages.adapter_floor * self._pages.page_bytes

    @property
    def used_bytes(self) -> int:
        """What is reserved now."""
        return self._pages.adapters * self._pages.page_bytes

    @property
    def lent_bytes(self) -> int:
        """What of that keys and values could use in their place."""
        return self._pages.lent * self._pages.page_bytes

    @property
    def free_bytes(self) -> int:
        """What can be reserved now without another adapter's leaving; a run of pages may still find no place."""
        return self._pages.adapters_available * self._pages.page_bytes

    @property
    def unused_bytes(self) -> int:
        """What of `free_bytes` nobody has a use for: it holds no prefix that was kept."""
        return self._pages.adapters_free * self._pages.page_bytes

    def bytes_for(self, form: NormalForm) -> int:
        """What `reserve` would count for a form: whole pages."""
        return self._plan(form).packing.pages * self._pages.page_bytes

    def fits(self, form: NormalForm, without: Sequence[Reservation] = (), *, over_prefixes: bool = True) -> bool:
        """See `DeviceMemory`."""
        leaving = [run for one in without for run in _held(one).runs]
        return self._pages.fits(self._plan(form).packing.runs, leaving, over_prefixes=over_prefixes)

    def in_the_way(self, form: NormalForm, without: Sequence[Reservation]) -> list[Reservation]:
        """Those of `without` that do for `fits` alone, where all of them do."""
        runs = self._pages.places(self._plan(form).packing.runs, [run for one in without for run in _held(one).runs])
        assert runs is not None
        places = {page for run in runs for page in run}
        return [one for one in without if any(not places.isdisjoint(run) for run in _held(one).runs)]

    def reserve(self, form: NormalForm) -> PageReservation | None:
        """Take pages for a form; None, and no change, where too few are free or no neighbours among them."""
        packing = self._plan(form).packing
        runs = self._pages.take_runs(packing.runs)
        if runs is None:
            return None
        page_bytes = self._pages.page_bytes
        return PageReservation(runs, packing.pages * page_bytes, self._pages.shared_in(runs) * page_bytes)

    def copy(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        """The form in its reservation, in the engine's number format. What lies together is copied at once."""
        if self._elements.device.type != "cuda":
            return self._copied(form, reservation)
        # On a stream of its own, beside the running step. No step is under way when pages change hands.
        stream = torch.cuda.Stream(self._elements.device)
        with torch.cuda.stream(stream):
            copied = self._copied(form, reservation)
        stream.synchronize()
        return copied

    def _copied(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        plan, runs = self._plan(form), _held(reservation).runs
        starts = [
            (runs[run].start * self._pages.page_bytes + offset) // self._elements.itemsize
            for run, offset in plan.packing.places
        ]
        for first, source in plan.copies:
            self._copy(self._elements.narrow(0, starts[first], source.numel()), source)

        def view(place: Place) -> torch.Tensor:
            if place.span < 0:
                return self._elements.new_empty(place.shape)
            return self._elements.as_strided(place.shape, place.stride, starts[place.span] + place.offset)

        linears: dict[str, LinearForm] = {}
        for name, places in plan.parts.linears.items():
            tensors = [None if place is None else view(place) for place in places]
            linears[name] = LinearForm(*tensors, scale=form.linears[name].scale)
        return NormalForm(linears)

    def release(self, reservation: Reservation) -> None:
        """Give the pages back; nothing may use the form any more."""
        self._pages.give_back(_held(reservation).runs)

    def _plan(self, form: NormalForm) -> _Plan:
        plan = self._plans.get(form)
        if plan is None:
            parts, item = form_spans(form), self._elements.itemsize
            sizes = [aligned((span.end - span.start) * item) for span in parts.spans]
            packing = pack(sizes, self._pages.page_bytes)
            together = _together(parts.spans, packing, item)
            copies = ((first, parts.spans[first].flat(parts.spans[last].end)) for first, last in together)
            plan = self._plans[form] = _Plan(parts, packing, tuple(copies))
        return plan


def _together(spans: Sequence[Span], packing: Packing, item: int) -> Iterator[tuple[int, int]]:
    """The first and last of spans that are neighbours where they are and, in elements of `item` bytes, in their run."""
    first = 0
    for index, (span, (run, offset)) in enumerate(zip(spans, packing.places, strict=True)):
        if index + 1 < len(spans):
            behind = (run, offset + (span.end - span.start) * item)
            if spans[index + 1].continues(span) and packing.places[index + 1] == behind:
                continue
        yield first, index
        first = index + 1


def _held(reservation: Reservation) -> PageReservation:
    assert isinstance(reservation, PageReservation)
    return reservation
