"""The rules as promtool sees them, and the page that says what to do about each alert."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deployment.promql import grown
from tests.deployment.queries import RULES, alerts
from tests.import_graph import ROOT

RULE_TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yml"))
RUNBOOK = ROOT / "docs" / "operations" / "alerts.md"


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    finished = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_is_seen_to_fire_and_to_keep_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for expected in test["alert_rule_test"]:
                (fired if expected.get("exp_alerts") else silent).add(expected["alertname"])
    assert fired == set(alerts())
    assert silent == set(alerts())


def test_every_alert_has_a_severity_and_says_where_help_is() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}, name
        assert {"summary", "description", "runbook"} <= set(rule["annotations"]), name
        assert rule["annotations"]["runbook"] == f"{RUNBOOK.relative_to(ROOT)}#{name.lower()}"


def sections() -> dict[str, str]:
    """The sections of the runbook by the alert's name."""
    parts = re.split(r"^## (Switchyard\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(sections()) == list(alerts())


@pytest.mark.parametrize("name", alerts())
def test_a_section_tells_the_meaning_the_check_and_the_cure(name: str) -> None:
    section = sections()[name]
    for heading in ("**Means:**", "**Confirm:**", "**Do:**"):
        assert heading in section


def test_what_a_counter_has_grown_by_includes_its_first_count(tmp_path: Path) -> None:
    query = grown("tokens_total", "adapter", "10m").replace("@", "")
    document = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'tokens_total{adapter="new"}', "values": "_x25 24x10"},
                    {"series": 'tokens_total{adapter="old"}', "values": "100x19 100+2x20"},
                    {"series": 'tokens_total{adapter="silent"}', "values": "70x40"},
                ],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "30m",
                        "exp_samples": [
                            {"labels": '{adapter="new"}', "value": 24},
                            {"labels": '{adapter="old"}', "value": 20},
                            {"labels": '{adapter="silent"}', "value": 0},
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "grown.yml"
    path.write_text(yaml.safe_dump(document))
    promtool("test", "rules", path)
