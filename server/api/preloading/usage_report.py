"""Which adapters are used, which are not, and what another device budget would bring."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters_store import AdapterEntry, clock
from server.adapters.traffic.traffic_model import Usage
from server.api.metrics.sizing_metrics import Sizing
from server.engine.messages import EngineState, Tier

DAY = 86_400.0

_GAIN = 0.02  # of the hit ratio: what more memory has to bring to be worth a word
_ENOUGH = 100  # lookups that a word of advice needs


@dataclass(frozen=True)
class NameUsage:
    """What is known of one adapter under all of its aliases; `last_asked` is None where nobody ever asked for it."""

    requests: int = 0
    last_asked: float | None = None
    rate: float = 0.0

    def with_key(self, usage: Usage) -> "NameUsage":
        """This and what is known of one more of its keys."""
        last = max(usage.last_asked, self.last_asked or 0.0)
        return NameUsage(self.requests + usage.requests, last, self.rate + usage.rate)


def by_name(usages: Iterable[Usage]) -> dict[str, NameUsage]:
    """What is known of each adapter, by its name without alias or digest."""
    found: dict[str, NameUsage] = {}
    for usage in usages:
        name = usage.key.partition("@")[0]
        found[name] = found.get(name, NameUsage()).with_key(usage)
    return found


@dataclass(frozen=True)
class UsageReport:
    """What the report is drawn from. `started` is when the history begins, None where there is none.

    `pins` are names that operators want resident now.
    """

    now: float
    started: float | None
    usages: Mapping[str, NameUsage]
    state: EngineState | None
    sizing: Sizing | None
    pins: Sequence[str]

    def answer(self, entries: Iterable[AdapterEntry], *, unused_days: float | None, limit: int) -> dict[str, Any]:
        """The adapters that have gone without a request for so many days (all, unless given), the longest first.

        One that was published since then is no candidate, however little it was asked for. Where the history is younger
        than these days, `too_young` says that what it lists may have been asked for before.
        """
        before = math.inf if unused_days is None else self.now - unused_days * DAY
        chosen = [
            (self.usages.get(str(entry.name), NameUsage()), entry)
            for entry in entries
            if unused_days is None or clock.seconds_of(entry.created) <= before
        ]
        chosen = [(usage, entry) for usage, entry in chosen if (usage.last_asked or 0.0) <= before]
        chosen.sort(key=lambda one: (one[0].last_asked or 0.0, str(one[1].name)))
        tiers, pinned = self._tiers(), {pin.partition("@")[0] for pin in self.pins}
        return {
            "object": "list",
            "data": [
                {
                    "id": str(entry.name),
                    "object": "adapter.usage",
                    "created": entry.created,
                    "last_asked": _text(usage.last_asked),
                    "requests": usage.requests,
                    "rate": usage.rate,
                    "tier": tiers.get(str(entry.name), "store"),
                    "bytes": sum(version.metadata.tensor_bytes for version in entry.versions),
                    "pinned": str(entry.name) in pinned,
                }
                for usage, entry in chosen[:limit]
            ],
            "has_more": len(chosen) > limit,
            "history_since": _text(self.started),
            "too_young": unused_days is not None and (self.started is None or self.started > before),
            "pins": list(self.pins),
            "cache": None if self.sizing is None else _cache(self.sizing),
        }

    def _tiers(self) -> dict[str, Tier]:
        """The nearest tier that has a version of each adapter; of host memory only what was used latest is known."""
        if self.state is None:
            return {}
        host: dict[str, Tier] = {adapter.name: "host" for adapter in self.state.host.latest}
        return host | {adapter.name: "device" for adapter in self.state.resident}


def advice(sizing: Sizing) -> str:
    """One sentence on the device budget."""
    if sizing.requests < _ENOUGH:
        return f"too few lookups to advise on the budget: {sizing.requests:.0f} of {_ENOUGH}"
    here = sizing.hit_ratios[1]
    best = max(sizing.hit_ratios.values())
    for multiple, ratio in sizing.hit_ratios.items():
        if multiple > 1 and ratio - here >= _GAIN and best - ratio < _GAIN:
            size = f"{multiple:g}x ({round(multiple * sizing.budget_bytes):,} bytes)"
            return f"a budget of {size} would raise the hit ratio from {here:.2f} to {ratio:.2f}"
    if here - sizing.hit_ratios[0.5] < _GAIN:
        return f"half the budget would hit as often: {sizing.hit_ratios[0.5]:.2f}"
    return f"a larger budget would hardly hit more often than {here:.2f}"


def _cache(sizing: Sizing) -> dict[str, Any]:
    return {
        "budget_bytes": sizing.budget_bytes,
        "lookups": round(sizing.requests),
        "hit_ratios": {f"{multiple:g}x": ratio for multiple, ratio in sizing.hit_ratios.items()},
        "working_set": {"adapters": sizing.working_set, "bytes": sizing.working_set_bytes},
        "advice": advice(sizing),
    }


def _text(at: float | None) -> str | None:
    return None if at is None else clock.text_of(datetime.fromtimestamp(at, UTC))
