"""The dashboard of a Switchyard server; `python -m tests.deployment.dashboard` writes its JSON anew."""

import json
import sys

from tests.deployment import adapter_panels, serving_panels
from tests.deployment.grafana import Dashboard
from tests.import_graph import ROOT

PATH = ROOT / "deploy" / "grafana" / "dashboards" / "switchyard.json"


def dashboard() -> Dashboard:
    """All of it."""
    return Dashboard(
        uid="switchyard",
        title="Switchyard",
        description="A multi-adapter inference server: what clients feel, what it costs, and what runs short.",
        instances_of="switchyard_engine_up",
        rows=(
            serving_panels.glance(),
            serving_panels.latency(),
            serving_panels.queue(),
            adapter_panels.adapter_cache(),
            adapter_panels.loads(),
            adapter_panels.fallbacks(),
            serving_panels.steps(),
            serving_panels.kv_cache(),
            adapter_panels.by_adapter(),
        ),
    )


def written() -> str:
    """The text of the committed JSON."""
    return json.dumps(dashboard().json(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(written())
    sys.stderr.write(f"{PATH.relative_to(ROOT)}: written\n")
