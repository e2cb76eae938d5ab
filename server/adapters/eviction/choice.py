"""The eviction policies by the names that settings and the simulator give them."""

from collections.abc import Callable, Mapping
from typing import Literal

from server.adapters.eviction.adaptive import Adaptive
from server.adapters.eviction.lru import LeastRecentlyUsed
from server.adapters.eviction.policy import EvictionPolicy
from server.adapters.eviction.rated import Rated

PolicyName = Literal["lru", "lfu", "cost", "predicted"]

_POLICIES: Mapping[PolicyName, Callable[[], EvictionPolicy]] = {
    "lru": LeastRecentlyUsed,
    "lfu": lambda: Rated(cost_aware=False, predicted=False),
    "cost": lambda: Adaptive((lambda: Rated(cost_aware=True, predicted=False), LeastRecentlyUsed)),
    "predicted": lambda: Adaptive((lambda: Rated(cost_aware=True, predicted=True), LeastRecentlyUsed)),
}


def eviction_policy(name: PolicyName) -> EvictionPolicy:
    """A new policy of this name, for one tier."""
    return _POLICIES[name]()
