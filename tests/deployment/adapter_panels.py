"""The rows of the dashboard about adapters: cache, loads, fallbacks, and each by itself."""

from tests.deployment.grafana import Panel, Query, Row
from tests.deployment.promql import grown, percentiles, rate


def adapter_cache() -> Row:
    """Which adapters are near, and whether memory is enough."""
    return Row(
        "Adapter cache",
        (
            Panel(
                "Hit ratio by tier",
                "Of the device, and of host memory for what the device missed. The device's above 0.9 is good; a low "
                "one with a high host ratio is cheap, both low is a cliff.",
                (
                    Query(
                        f"{rate('switchyard_adapter_cache_hits_total', 'tier')}"
                        f" / {rate('switchyard_adapter_cache_lookups_total', 'tier')}",
                        "{{tier}}",
                    ),
                ),
                unit="percentunit",
                maximum=1,
            ),
            Panel(
                "Hits and misses",
                "Lookups a second by tier. Misses of the host tier are read from disk.",
                (
                    Query(rate("switchyard_adapter_cache_hits_total", "tier"), "{{tier}} hit"),
                    Query(rate("switchyard_adapter_cache_misses_total", "tier"), "{{tier}} miss"),
                ),
                unit="ops",
            ),
            Panel(
                "Ghost curve",
                "The hit ratio that another device budget would have had. Much higher at 2x: more memory pays. Level "
                "at 0.5x: memory is to spare.",
                (Query("avg by (budget) (switchyard_adapter_ghost_hit_ratio{@})", "{{budget}}"),),
                kind="bargauge",
                unit="percentunit",
                maximum=1,
                steps=((None, "red"), (0.5, "yellow"), (0.9, "green")),
            ),
            Panel(
                "Working set against the device",
                "Bytes asked for in ten minutes, and what the device holds and may hold. The working set above the "
                "budget is where misses begin.",
                (
                    Query("sum(switchyard_adapter_working_set_bytes{@})", "working set"),
                    Query("sum(switchyard_adapter_bytes{@})", "on the device"),
                    Query("sum(switchyard_adapter_budget_bytes{@})", "device budget"),
                ),
                unit="bytes",
            ),
            Panel(
                "Host tier",
                "Bytes in host memory and its budget. Full is normal; too small shows as loads from the store.",
                (
                    Query("sum(switchyard_adapter_host_bytes{@})", "in host memory"),
                    Query("sum(switchyard_adapter_host_budget_bytes{@})", "host budget"),
                ),
                unit="bytes",
            ),
            Panel(
                "Adapters",
                "Versions on the device, in host memory, used by running rows, and asked for in ten minutes.",
                (
                    Query("sum(switchyard_adapters_resident{@})", "on the device"),
                    Query("sum(switchyard_adapters_pinned{@})", "in use"),
                    Query("sum(switchyard_adapters_in_host{@})", "in host memory"),
                    Query("sum(switchyard_adapter_working_set_adapters{@})", "working set"),
                ),
            ),
            Panel(
                "Evictions",
                "Versions that left a tier. `capacity` all the time, for the same adapters, is thrashing.",
                (Query(rate("switchyard_adapter_evictions_total", "tier, reason"), "{{tier}} {{reason}}"),),
                unit="ops",
                width=12,
            ),
            Panel(
                "Preloads",
                "Ended as useful (a request came) or wasted (it left unused). Useful should be the larger part.",
                (Query(rate("switchyard_adapter_preloads_total", "outcome"), "{{outcome}}"),),
                unit="ops",
                stacked=True,
                width=12,
            ),
        ),
    )


def loads() -> Row:
    """What a miss costs."""
    return Row(
        "The cost of a miss",
        (
            Panel(
                "Load by source",
                "Seconds of a load from host memory and from the store. Host: some milliseconds; store: some tens. "
                "More is a slow disk or a machine without a free core.",
                percentiles("switchyard_adapter_load_seconds", by="source", shares=(0.5, 0.99)),
                unit="s",
            ),
            Panel(
                "Load by stage",
                "Where the time goes: hash and read are the disk's, copy is the device's.",
                percentiles("switchyard_adapter_load_stage_seconds", by="stage", shares=(0.5, 0.99)),
                unit="s",
            ),
            Panel(
                "Time spent loading",
                "Seconds of loading in each second. Near the number of load workers, loads wait in turn.",
                (Query(rate("switchyard_adapter_load_seconds_sum", "source"), "{{source}}"),),
                unit="none",
                stacked=True,
            ),
            Panel(
                "Loads by outcome",
                "loaded is the only good one; the others are the reasons of failures.",
                (Query(rate("switchyard_adapter_loads_total", "outcome"), "{{outcome}}"),),
                unit="ops",
                width=12,
            ),
            Panel(
                "Failed loads in an hour",
                "0 is good. checksum_mismatch: verify the store. load_failed: files are missing or unreadable.",
                (
                    Query(
                        'sum by (outcome) (increase(switchyard_adapter_loads_total{@,outcome!="loaded"}[1h]))',
                        "{{outcome}}",
                    ),
                ),
                kind="bargauge",
                steps=((None, "green"), (0.5, "red")),
                width=12,
            ),
        ),
    )


def fallbacks() -> Row:
    """Who does not get the adapter asked for."""
    return Row(
        "Fallbacks and refusals",
        (
            Panel(
                "Fallbacks by reason",
                "The base answered in the place of an adapter. All at 0 is good; timeout is a lack of room or of load "
                "bandwidth, the others are broken or oversized versions.",
                (Query(rate("switchyard_adapter_fallbacks_total", "reason"), "{{reason}}"),),
                unit="reqps",
            ),
            Panel(
                "Refusals by reason",
                "The same, for requests that forbade the fallback: they got a 503.",
                (Query(rate("switchyard_adapter_refusals_total", "reason"), "{{reason}}"),),
                unit="reqps",
            ),
            Panel(
                "Refused before the engine",
                "By error code. queue_full is overload; the others are clients' mistakes.",
                (Query(rate("switchyard_requests_refused_total", "code"), "{{code}}"),),
                unit="reqps",
            ),
        ),
    )


def by_adapter() -> Row:
    """Who asks for what."""
    return Row(
        "By adapter",
        (
            Panel(
                "Adapters in the last ten minutes",
                "Those with most tokens. `other` are all beyond metrics_adapter_labels. Failures above 0 want a look.",
                (
                    Query(f"topk(50, {grown('switchyard_generation_tokens_total', 'adapter', '10m')})"),
                    Query(grown("switchyard_requests_total", "adapter", "10m")),
                    Query(grown("switchyard_requests_total", "adapter", "10m", labels=',outcome="failed"')),
                    Query(grown("switchyard_prompt_tokens_total", "adapter", "10m")),
                ),
                kind="table",
                unit="none",
                columns=("tokens generated", "requests", "failed", "prompt tokens"),
                width=24,
                height=12,
            ),
        ),
    )
