"""Who leaves for a form that needs neighbouring pages."""

from collections.abc import Sequence
from unittest.mock import patch

import torch

from server.adapters.device_memory import Reservation
from server.adapters.device_tier import DeviceTier
from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.normal_form import NormalForm
from server.adapters.shared_memory import SharedMemory
from server.engine.page_pool import PagePool
from tests.engine.hand_made import adapter
from tests.scripted_loader import form_of

PAGE_BYTES = 128


def full_of(names: Sequence[str], *, oldest: Sequence[str]) -> DeviceTier:
    """A device that is full of versions of one page each, `names` from its end; `oldest` were asked for longest ago."""
    pages = PagePool(kv_floor=1, adapter_floor=len(names), page_bytes=PAGE_BYTES)
    device = torch.empty(1 + pages.total, PAGE_BYTES, dtype=torch.uint8)
    memory = SharedMemory(pages, device, torch.uint8)
    tier = DeviceTier(memory, LeastRecentlyUsed(), reload_seconds=lambda size_bytes: 1.0)
    for name in names:
        form = form_of(PAGE_BYTES)
        tier.arrive(adapter(name), form, None)
        tier.settle_in(adapter(name).digest, form)
    for now, name in enumerate([*oldest, *(name for name in names if name not in oldest)]):
        tier.policy.asked(adapter(name).digest, float(now))
    return tier


def digests(names: Sequence[str]) -> list[str]:
    return [adapter(name).digest for name in names]


def test_only_those_leave_that_lie_where_the_form_goes() -> None:
    tier = full_of("abcdefgh", oldest="acegd")
    assert tier.victims_of(form_of(2 * PAGE_BYTES), frozenset()) == digests("cd")
    assert tier.to_drain_for(form_of(8 * PAGE_BYTES)) == {*digests("abcdefgh")}


def test_of_those_that_take_no_neighbours_the_coldest_leave() -> None:
    tier = full_of("abcdefgh", oldest="ge")
    assert tier.victims_of(form_of(PAGE_BYTES), frozenset()) == digests("g")
    assert tier.victims_of(form_of(PAGE_BYTES), {*digests("g")}) == digests("e")
    assert tier.victims_of(form_of(9 * PAGE_BYTES), frozenset()) is None


def test_many_victims_are_found_in_a_few_looks() -> None:
    tier = full_of([str(number) for number in range(200)], oldest=[])
    fits, looks = tier.memory.fits, list[int]()

    def counted(form: NormalForm, without: Sequence[Reservation] = ()) -> bool:
        looks.append(len(without))
        return fits(form, without)

    with patch.object(tier.memory, "fits", counted):
        victims = tier.victims_of(form_of(100 * PAGE_BYTES), frozenset())
        assert victims is not None
        assert len(victims) == 100
        assert len(tier.to_drain_for(form_of(100 * PAGE_BYTES))) == 100
    assert len(looks) < 40
