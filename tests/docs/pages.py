"""What the reference pages must hold, drawn from the code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from server.api.metrics.registry import Metrics
from server.api.protocol.strict_fields import Label, Neutral
from server.config import Settings
from server.engine.messages import (
    EngineState,
    EvictionReport,
    GroupReport,
    LoadReport,
    LookupReport,
    PreloadReport,
    ResidentAdapter,
    StepReport,
)
from tests.api.scripted_engine import ScriptedEngine, model_info, saying
from tests.import_graph import ROOT

REFERENCE = ROOT / "docs" / "reference"


def setting_row(name: str) -> str:
    """A setting's row in the table of settings."""
    field = Settings.model_fields[name]
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    shown = "not set" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return f"| `{name}` | {shown} | {field.description} |"


def metric_row(family: Metric) -> str:
    """A metric's row in the table of metrics; its labels are those of its samples."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    shown = ", ".join(f"`{label}`" for label in sorted(labels)) or "none"
    return f"| `{family.name}{suffix}` | {family.type} | {shown} | {family.documentation} |"


def metric_families() -> list[Metric]:
    """Every metric of the server, with samples of each."""
    engine = ScriptedEngine(model_info(Path()), saying([]))
    engine.status = "ready"
    metrics = Metrics(engine, adapter_labels=10)
    metrics.describe_base("tiny", model_info(Path()))
    metrics.requests.http_responses.labels("GET", "/health", 200).inc()
    metrics.requests.refused.labels("queue_full").inc()
    record = metrics.requests.begin("support", 5, "tiny")
    record.started(None)
    record.first_token()
    record.end("stop", 2)
    metrics.tasks.routed("summarise", "support", 0)
    metrics.tasks.passed_over("summarise", "unresolved")
    metrics.tasks.tier_step("summarise", 1)
    metrics.tasks.shadow_ended("summarise", "support", "stop")
    metrics.tasks.shadow_answered("summarise", "support", 0.1, 2, same=True)
    version: dict[str, Any] = {"name": "support", "digest": "sha256:0", "size_bytes": 1}
    for report in (
        StepReport(seconds=0.1, rows=1, decode_rows=1, prefill_tokens=0, adapters=1),
        GroupReport(digest=None, size=1, held_seconds=0.0, waited_seconds=0.0),
        LookupReport(name="a", digest="sha256:a", tier="device"),
        LoadReport(**version, seconds=0.1, rank=8),
        EvictionReport(**version, reason="capacity"),
        PreloadReport(name="support", digest="sha256:0", outcome="useful"),
        EngineState(
            running=1,
            waiting=0,
            kv_blocks_used=1,
            kv_blocks_total=2,
            prefix_hit_tokens=0,
            prefix_lookup_tokens=0,
            preemptions=0,
            rows_taken_back=0,
            adapter_bytes=1,
            adapter_budget_bytes=2,
            resident=[ResidentAdapter(**version, rank=8, pinned=True)],
            waiting_adapters=[],
        ),
    ):
        metrics.engine.observe(report)
    return list(metrics.registry.collect())


def neutral_row(name: str, neutral: Neutral) -> str:
    """A row of the fields that are accepted and ask for nothing."""
    if isinstance(neutral, Label):
        accepted = {"str": "any string", "dict": "any object", "bool": "either"}[neutral.kind.__name__]
    else:
        accepted = ", ".join(f"`{json.dumps(value)}`" for value in neutral.values) or "only null"
    return f"| `{name}` | {accepted} |"


def field_rows(request: type[Any]) -> Iterator[str]:
    """A row for every field that is acted on, without those of a class above."""
    for name, field in request.model_fields.items():
        if not any(name in getattr(parent, "model_fields", {}) for parent in request.__mro__[1:]):
            text = (field.description or "").replace("|", "\\|")
            yield f"| `{field.alias or name}` | {text} |"
