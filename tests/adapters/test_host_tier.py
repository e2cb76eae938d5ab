"""What host memory tells of the versions that it holds."""

from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.host_tier import LISTED, HostEntry, HostTier
from server.adapters.load_costs import LoadCosts
from tests.engine.hand_made import adapter
from tests.scripted_loader import form_of


def test_all_are_counted_and_those_listed_that_were_used_latest() -> None:
    tier, form = HostTier(LISTED * 2, LeastRecentlyUsed(), LoadCosts()), form_of(1)
    names = [str(number) for number in range(LISTED + 3)]
    for name in names:
        tier.add(HostEntry(adapter(name), form))
    for name in ("1", "unknown"):
        tier.asked(adapter(name).digest)
    listed = tier.listed()
    assert listed.count == LISTED + 3
    assert [entry.name for entry in listed.latest] == [*names[4:], "1"]
    assert tier.listed().latest[0] is listed.latest[0]
    tier.remove(adapter("1").digest)
    assert [entry.name for entry in tier.listed().latest] == names[3:]
