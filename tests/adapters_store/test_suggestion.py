"""Suggestions for a name that does not exist."""

import time

from adapters_store.names import AdapterName
from adapters_store.suggestion import closest_names


def test_near_misses_come_nearest_first() -> None:
    known = [AdapterName(None, name) for name in ("summary", "support-fr", "support", "zebra")]
    assert closest_names(AdapterName(None, "suport"), known) == [
        AdapterName(None, "support"),
        AdapterName(None, "support-fr"),
    ]
    assert closest_names(AdapterName(None, "qqq"), known) == []


def test_other_tenants_names_are_not_told() -> None:
    known = [AdapterName("acme", "support"), AdapterName(None, "support")]
    assert closest_names(AdapterName("other", "suport"), known) == []
    assert closest_names(AdapterName("acme", "suport"), known) == [AdapterName("acme", "support")]


def test_a_miss_in_a_large_store_stays_cheap() -> None:
    known = [AdapterName(None, f"customer-{number:05}") for number in range(20_000)]
    began = time.process_time()
    assert closest_names(AdapterName(None, "custmer-17041"), known)[0] == AdapterName(None, "customer-17041")
    assert time.process_time() - began < 2
