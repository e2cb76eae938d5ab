"""The rows of the dashboard about requests, steps and the KV cache."""

from tests.deployment.grafana import Panel, Query, Row
from tests.deployment.promql import mean, percentiles, rate

DEVICE = ',tier="device"'


def glance() -> Row:
    """What to look at first."""
    return Row(
        "At a glance",
        (
            Panel(
                "Engine",
                "1 is good: the engine takes requests. 0 for more than a minute is an outage; the log says why.",
                (Query("min(switchyard_engine_up{@})"),),
                kind="stat",
                steps=((None, "red"), (1, "green")),
                width=3,
                height=4,
            ),
            Panel(
                "Restarts in a day",
                "0 is good. Each one ended every open request with an error.",
                (Query("sum(increase(switchyard_engine_restarts_total{@}[1d]))"),),
                kind="stat",
                steps=((None, "green"), (0.5, "yellow"), (3, "red")),
                width=3,
                height=4,
            ),
            Panel(
                "Tokens/s",
                "Generated tokens of all requests. Good is what the load test reached on this machine.",
                (Query(rate("switchyard_generation_tokens_total")),),
                kind="stat",
                width=3,
                height=4,
            ),
            Panel(
                "First token, p99",
                "99 of 100 requests get their first token sooner. Compare with what you promise.",
                percentiles("switchyard_time_to_first_token_seconds", shares=(0.99,)),
                kind="stat",
                unit="s",
                steps=((None, "green"), (2, "yellow"), (10, "red")),
                width=3,
                height=4,
            ),
            Panel(
                "Waiting",
                "Requests without a row. A few are normal under load; growth without end is overload.",
                (Query("sum(switchyard_requests_waiting{@})"),),
                kind="stat",
                steps=((None, "green"), (64, "yellow"), (256, "red")),
                width=3,
                height=4,
            ),
            Panel(
                "Adapter hits",
                "Share of requests whose adapter was on the device. Above 0.9 is good; a fall is the cliff's edge.",
                (
                    Query(
                        f"{rate('switchyard_adapter_cache_hits_total', labels=DEVICE)}"
                        f" / {rate('switchyard_adapter_cache_lookups_total', labels=DEVICE)}"
                    ),
                ),
                kind="stat",
                unit="percentunit",
                steps=((None, "red"), (0.5, "yellow"), (0.9, "green")),
                width=3,
                height=4,
            ),
            Panel(
                "Working set / budget",
                "Bytes asked for in ten minutes against what the device holds. Below 1 all fit; above it some miss.",
                (Query("max(switchyard_adapter_working_set_bytes{@} / switchyard_adapter_budget_bytes{@})"),),
                kind="stat",
                unit="percentunit",
                steps=((None, "green"), (0.9, "yellow"), (2, "red")),
                width=3,
                height=4,
            ),
            Panel(
                "Fallbacks in an hour",
                "0 is good: nobody got the base in the place of an adapter. Reasons stand further down.",
                (Query("sum(increase(switchyard_adapter_fallbacks_total{@}[1h]))"),),
                kind="stat",
                steps=((None, "green"), (0.5, "red")),
                width=3,
                height=4,
            ),
        ),
    )


def latency() -> Row:
    """What clients feel."""
    return Row(
        "Latency and throughput",
        (
            Panel(
                "Time to first token",
                "From acceptance to the first token. A p99 far above p50 is waiting: look at the queue and the loads. "
                "All rising together is load.",
                percentiles("switchyard_time_to_first_token_seconds"),
                unit="s",
            ),
            Panel(
                "Time per output token",
                "Mean of each request after its first token. It should follow the step time; it rises with the rows.",
                percentiles("switchyard_time_per_output_token_seconds"),
                unit="s",
            ),
            Panel(
                "Whole requests",
                "From acceptance to the last token. Good is whatever your clients' time-outs are far above.",
                percentiles("switchyard_request_seconds"),
                unit="s",
            ),
            Panel(
                "Tokens a second",
                "Prompt tokens read and tokens generated. A flat line while requests wait is the machine's limit.",
                (
                    Query(rate("switchyard_generation_tokens_total"), "generated"),
                    Query(rate("switchyard_prompt_tokens_total"), "prompt"),
                ),
            ),
            Panel(
                "Requests by outcome",
                "stop and length were answered. failed is bad; many disconnected mean that clients lose patience.",
                (Query(rate("switchyard_requests_total", "outcome"), "{{outcome}}"),),
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "HTTP answers by status",
                "500 must not occur. 429 is a full queue, 503 an adapter or engine that is not there, 504 a deadline.",
                (Query(rate("switchyard_http_responses_total", "status"), "{{status}}"),),
                unit="reqps",
                stacked=True,
            ),
        ),
    )


def queue() -> Row:
    """What a request waits for."""
    return Row(
        "Queue, window and fairness",
        (
            Panel(
                "Time in the queue",
                "From acceptance to the start of the prompt: queue, window and load together. It is what a request "
                "pays before any computing; p99 in seconds means saturation or misses.",
                percentiles("switchyard_queue_seconds"),
                unit="s",
            ),
            Panel(
                "Running and waiting",
                "Running below max_rows with requests waiting is bad: they wait for adapters or for KV blocks.",
                (
                    Query("sum(switchyard_requests_running{@})", "running"),
                    Query("sum(switchyard_requests_waiting{@})", "waiting"),
                ),
            ),
            Panel(
                "Oldest request that waits",
                "The age of the oldest request without a row. A saw-tooth is good; a straight climb is starvation.",
                (Query("max(switchyard_oldest_waiting_seconds{@})", "oldest"),),
                unit="s",
                steps=((None, "green"), (30, "yellow"), (60, "red")),
            ),
            Panel(
                "Window",
                "How long groups were held although a row was free, and how long their windows were to be. "
                "Held near 0 on an idle engine is good; never above window_ms.",
                (
                    *percentiles("switchyard_window_held_seconds", shares=(0.5, 0.99), prefix="held "),
                    *percentiles("switchyard_window_open_seconds", shares=(0.5, 0.99), prefix="window "),
                ),
                unit="s",
            ),
            Panel(
                "Group size and wait",
                "Requests of one adapter admitted together, on average. Larger groups make steps cheaper.",
                (Query(mean("switchyard_group_size"), "requests a group"),),
            ),
            Panel(
                "Wait of groups",
                "From the arrival of a group's first request to its admission.",
                percentiles("switchyard_group_waited_seconds"),
                unit="s",
            ),
            Panel(
                "Tokens by tenant",
                "What each tenant gets. While all of them wait the lines should be level; one far above the others "
                "then is unfair.",
                (Query(rate("switchyard_tenant_tokens_total", "tenant"), "{{tenant}}"),),
                stacked=True,
                width=12,
            ),
            Panel(
                "Dropped at their deadline",
                "Requests that could not be answered within their own timeout. 0 is good; more is overload or a "
                "timeout that is too short.",
                (Query(rate("switchyard_deadline_exceeded_total"), "dropped"),),
                unit="reqps",
                width=12,
            ),
        ),
    )


def steps() -> Row:
    """What the engine does."""
    return Row(
        "Steps and batches",
        (
            Panel(
                "Step time",
                "Seconds of one step. Decoding steps should be level; long ones hold prefill chunks.",
                percentiles("switchyard_step_seconds"),
                unit="s",
            ),
            Panel(
                "Steps a second",
                "0 while requests run or wait is a stuck loop.",
                (Query(rate("switchyard_step_seconds_count"), "steps"),),
                unit="ops",
            ),
            Panel(
                "Batch composition",
                "Mean rows, decoding rows and different adapters of a step. Rows near max_rows: the batch is full.",
                (
                    Query(mean("switchyard_batch_rows"), "rows"),
                    Query(mean("switchyard_batch_decode_rows"), "decoding"),
                    Query(mean("switchyard_batch_adapters"), "adapters"),
                ),
            ),
            Panel(
                "Prompt tokens a step",
                "Mean prefill tokens of a step. High values make running answers wait: lower max_batch_tokens.",
                (Query(mean("switchyard_step_prefill_tokens"), "tokens"),),
            ),
            Panel(
                "Share of time in steps",
                "Of each server. Near 1 the engine is busy all the time: this is saturation.",
                (Query(rate("switchyard_step_seconds_sum", "instance"), "{{instance}}"),),
                unit="percentunit",
            ),
            Panel(
                "Base",
                "Bytes of the resident base model.",
                (Query("max(switchyard_base_resident_bytes{@})", "resident"),),
                unit="bytes",
            ),
        ),
    )


def kv_cache() -> Row:
    """Memory of sequences."""
    return Row(
        "KV cache",
        (
            Panel(
                "Blocks in use",
                "Share of the KV blocks in use. Near 1 with preemptions is too small.",
                (Query("max(switchyard_kv_blocks_used{@} / switchyard_kv_blocks{@})", "in use"),),
                unit="percentunit",
                maximum=1,
            ),
            Panel(
                "Rows taken back",
                "Sequences put back because blocks ran out, whose prompts are computed again: 0 is good. And those put"
                " back because others had fewer rows: what a hot adapter leaves to the others.",
                (
                    Query(rate("switchyard_preemptions_total"), "blocks ran out"),
                    Query(rate("switchyard_rows_taken_back_total"), "for fairness"),
                ),
                unit="ops",
            ),
            Panel(
                "Prefix reuse",
                "Share of prompt tokens taken from the prefix cache. As high as prompts are alike; it costs nothing.",
                (
                    Query(
                        f"{rate('switchyard_prefix_hit_tokens_total')}"
                        f" / {rate('switchyard_prefix_lookup_tokens_total')}",
                        "reused",
                    ),
                ),
                unit="percentunit",
                maximum=1,
            ),
        ),
    )
