"""What the dashboard and the rules ask Prometheus."""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.deployment.dashboard import dashboard
from tests.import_graph import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules"

_METRIC = re.compile(r"(?<![:\w])(?:switchyard_\w+|up)(?=[{\[\s)]|$)")
_SERIES = re.compile("_(?:bucket|sum|count)$")
_RECORDED = re.compile(r"\binstance:switchyard_\w+:\w+")


def rules() -> list[dict[str, Any]]:
    """Every recording and alert rule, in order."""
    documents = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recordings() -> dict[str, str]:
    """The recorded expressions by name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def rule_expressions() -> list[str]:
    """What the rules ask."""
    return [rule["expr"] for rule in rules()]


def dashboard_expressions() -> list[str]:
    """What the panels ask, with Grafana's variables filled in for a server that is scraped each second."""
    return [
        query.expression.replace("$__rate_interval", "30s").replace("$instance", ".*")
        for panel in dashboard().panels()
        for query in panel.queries
    ]


def metrics_of(expression: str) -> set[str]:
    """The metrics of an expression as the reference names them, those behind recorded ones included."""
    found = {_SERIES.sub("", name) for name in _METRIC.findall(_RECORDED.sub("", expression))}
    for name in _RECORDED.findall(expression):
        found |= metrics_of(recordings()[name])
    return found
