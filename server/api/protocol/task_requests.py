"""Bodies of the task routes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import Field

from adapters_store.task_rule import TaskRule
from server.api.protocol.strict_fields import StrictFields

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "one adapter": {"arms": [{"adapter": "base"}], "description": "Summaries of tickets"},
    "a canary of 10 % that users stay on": {
        "arms": [{"adapter": "support", "weight": 90}, {"adapter": "base", "weight": 10}],
        "sticky": "user",
    },
    "a high rank while there is room, and a shadow": {
        "arms": [{"tiers": [{"adapter": "support"}, {"adapter": "support@latest"}]}],
        "fallback": ["base"],
        "shadow": [{"adapter": "base", "sample": 0.1}],
        "pressure": {"down": 0.9, "up": 0.7, "hold_seconds": 30},
    },
}
"""Rules that the OpenAPI document shows, by what they do; `support` stands for an adapter that is published."""


class TaskRollbackRequest(StrictFields):
    """Which rule of a task to put in force again."""

    to: int | None = Field(None, ge=1, description="The revision to restore; the one before that in force by default.")
    expect: int | None = Field(None, ge=0, description="The revision in force now; 409 when that is not so.")


def rule_schema() -> dict[str, Any]:
    """The JSON schema of a rule, without references, so that it can stand anywhere in a document."""
    (schema,), parts = msgspec.json.schema_components([TaskRule], ref_template="{name}")
    whole: dict[str, Any] = _inlined(schema, parts)
    return whole


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"]], parts)
    return {name: _inlined(value, parts) for name, value in schema.items()}
