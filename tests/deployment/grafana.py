"""A Grafana dashboard as values, and its JSON (schema version 39: Grafana 10.4 and later take it as it stands)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "gauge", "bargauge", "table"]
Colour = Literal["green", "yellow", "red"]

GRID_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

_SELECTED = 'instance=~"$instance"'


@dataclass(frozen=True)
class Query:
    """One PromQL expression. In `text` the sign `@` among a metric's labels stands for the instances chosen above."""

    text: str
    legend: str = ""

    @property
    def expression(self) -> str:
        """What Prometheus is asked, with Grafana's variables still in it."""
        return self.text.replace("@", _SELECTED)


@dataclass(frozen=True)
class Panel:
    """One panel; `description` says what is good and what is bad. Sizes are cells of Grafana's grid.

    `steps` colours a value from each threshold on; the first colour is that of the lowest values.
    """

    title: str
    description: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    steps: Sequence[tuple[float | None, Colour]] = ((None, "green"),)
    columns: Sequence[str] = ()

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana reads it, at a place in the grid."""
        custom = _CURVE | ({"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30} if self.stacked else {})
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "color": {"mode": "palette-classic" if self.kind in ("timeseries", "table") else "thresholds"},
            "thresholds": {"mode": "absolute", "steps": [{"value": at, "color": colour} for at, colour in self.steps]},
        }
        if self.kind == "timeseries":
            defaults["custom"] = custom
        if self.minimum is not None:
            defaults["min"] = self.minimum
        if self.maximum is not None:
            defaults["max"] = self.maximum
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": _OPTIONS[self.kind],
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
            "transformations": self._transformations(),
        }

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        now = self.kind != "timeseries"
        return {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend or "__auto",
            "editorMode": "code",
            "instant": now,
            "range": not now,
            "format": "table" if self.kind == "table" else "time_series",
        }

    def _transformations(self) -> list[dict[str, Any]]:
        """A table joins its queries by the label that they share, and names the column of each."""
        if self.kind != "table":
            return []
        names = {f"Value #{chr(ord('A') + index)}": name for index, name in enumerate(self.columns)}
        organised = {"excludeByName": {"Time": True}, "renameByName": names}
        return [{"id": "merge", "options": {}}, {"id": "organize", "options": organised}]


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it, laid out from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """A whole dashboard with its two variables: the data source and the instances of the server."""

    uid: str
    title: str
    description: str
    instances_of: str
    rows: Sequence[Row]

    def panels(self) -> Iterator[Panel]:
        """Every panel, row by row."""
        for row in self.rows:
            yield from row.panels

    def json(self) -> dict[str, Any]:
        """The document that Grafana is provisioned with."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["switchyard"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "annotations": {"list": []},
            "links": [],
            "templating": {"list": self._variables()},
            "panels": list(self._placed()),
        }

    def _variables(self) -> list[dict[str, Any]]:
        labels = f"label_values({self.instances_of}, instance)"
        return [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
            {
                "name": "instance",
                "label": "Server",
                "type": "query",
                "datasource": DATASOURCE,
                "query": {"query": labels, "refId": "instance"},
                "definition": labels,
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            },
        ]

    def _placed(self) -> Iterator[dict[str, Any]]:
        number, y = 0, 0
        for row in self.rows:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1},
            }
            y += 1
            x, tallest = 0, 0
            for panel in row.panels:
                if x + panel.width > GRID_WIDTH:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.json(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest


_CURVE: dict[str, Any] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"}
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Kind, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _LAST, "colorMode": "value", "graphMode": "none", "textMode": "auto"},
    "gauge": {"reduceOptions": _LAST, "showThresholdMarkers": True, "showThresholdLabels": False},
    "bargauge": {"reduceOptions": _LAST, "displayMode": "gradient", "orientation": "horizontal"},
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
}
