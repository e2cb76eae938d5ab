"""The rules as promtool sees them, and the page that says what to do about each alert."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

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
