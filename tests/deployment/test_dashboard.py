"""The committed dashboard is the generated one, explains itself, and asks for metrics that exist."""

import json
import re

import pytest

from tests.deployment.dashboard import PATH, dashboard, written
from tests.deployment.grafana import GRID_WIDTH
from tests.deployment.queries import metrics_of, rule_expressions
from tests.docs.generated_tables import metric_rows


def known_metrics() -> set[str]:
    return set(metric_rows()) | {"up"}


def test_the_committed_json_is_the_generated_one() -> None:
    assert PATH.read_text() == written(), "run `python -m tests.deployment.dashboard`"


def test_every_panel_says_what_is_good_or_bad() -> None:
    for panel in dashboard().panels():
        assert len(panel.description) >= 30, panel.title
        assert panel.description.endswith("."), panel.title


def test_ids_and_titles_are_unique() -> None:
    document = json.loads(PATH.read_text())
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel.title for panel in dashboard().panels()]
    assert len(set(titles)) == len(titles)


def test_no_two_panels_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(PATH.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID_WIDTH
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & own, panel["title"]
        cells |= own


def test_every_query_is_of_the_chosen_servers() -> None:
    for panel in dashboard().panels():
        for query in panel.queries:
            assert query.text.count("@") == len(re.findall(r"\bswitchyard_\w+", query.text)), query.text


@pytest.mark.parametrize(
    "expression",
    [*(query.expression for panel in dashboard().panels() for query in panel.queries), *rule_expressions()],
)
def test_every_metric_asked_for_is_one_of_the_server(expression: str) -> None:
    assert metrics_of(expression) <= known_metrics()
