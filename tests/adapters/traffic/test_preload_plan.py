"""The plan of pins and schedules: when it wants what, and what it says of a mistake."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server.adapters.traffic.preload_plan import PreloadPlan
from server.errors import ConfigurationError

OFFICE = {"adapters": ["office"], "days": ["mon", "tue"], "from": "08:45", "to": "18:00"}
NIGHT = {"adapters": ["night"], "days": ["fri"], "from": "22:00", "to": "06:00"}


def plan(tmp_path: Path, content: dict[str, Any]) -> PreloadPlan:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"zone": "UTC", **content}))
    return PreloadPlan.read(path)


def at(day: int, clock: str) -> float:
    """A Unix time in a week of which Monday is the 2nd."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("day", "clock", "wanted"),
    [
        (2, "08:44", []),
        (2, "08:45", ["office"]),
        (3, "17:59", ["office"]),
        (3, "18:00", []),
        (4, "12:00", []),
        (6, "21:59", []),
        (6, "22:00", ["night"]),
        (7, "05:59", ["night"]),
        (7, "06:00", []),
        (7, "23:00", []),
        (6, "05:00", []),
    ],
)
def test_schedules_hold_on_their_days_also_past_midnight(
    tmp_path: Path, day: int, clock: str, wanted: list[str]
) -> None:
    assert plan(tmp_path, {"schedules": [OFFICE, NIGHT]}).wanted(at(day, clock)) == wanted


def test_pins_are_always_wanted_and_come_first_each_name_once(tmp_path: Path) -> None:
    found = plan(tmp_path, {"pins": ["support@prod", "office"], "schedules": [OFFICE]})
    assert found.wanted(at(2, "12:00")) == ["support@prod", "office"]
    assert plan(tmp_path, {"schedules": [{**OFFICE, "days": ["mon"]}]}).wanted(at(2, "12:00")) == ["office"]


def test_times_are_those_of_the_zone(tmp_path: Path) -> None:
    found = plan(tmp_path, {"zone": "Asia/Tokyo", "schedules": [OFFICE]})
    assert found.wanted(at(2, "00:00")) == ["office"]
    assert found.wanted(at(2, "12:00")) == []


def test_a_plan_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('pins = ["a"]\n[[schedules]]\nadapters = ["b"]\nfrom = "00:00"\nto = "00:00"\n')
    assert PreloadPlan.read(path).wanted(0.0) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"pin": []}, "pin"),
        ({"pins": [1]}, r"pins\[0\]: Expected `str`"),
        ({"pins": ["../etc"]}, r"pins\[0\]: "),
        ({"pins": ["base"]}, r"pins\[0\]: `base` is always resident"),
        ({"schedules": [{**OFFICE, "from": "8 o'clock"}]}, r"schedules\[0\]\.from: .* is no time"),
        ({"schedules": [{**OFFICE, "to": "24:00"}]}, r"schedules\[0\]\.to: '24:00'"),
        ({"schedules": [{**OFFICE, "days": ["monday"]}]}, r"schedules\[0\]\.days\[0\]: Invalid enum value"),
        ({"schedules": [{**OFFICE, "days": []}]}, r"schedules\[0\]\.days: is empty"),
        ({"schedules": [{**OFFICE, "adapters": ["a b"]}]}, r"schedules\[0\]\.adapters\[0\]: "),
        ({"schedules": [{"adapters": [], "to": "08:00"}]}, r"schedules\[0\]: .*`from`"),
        ({"zone": "Mars/Olympus"}, "zone: 'Mars/Olympus'"),
        ({"zone": "../../etc/passwd"}, "zone: "),
    ],
)
def test_a_mistake_is_told_with_its_field(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as failure:
        plan(tmp_path, content)
    assert "plan.json" in failure.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    for suffix in ("json", "toml"):
        path = tmp_path / f"plan.{suffix}"
        path.write_text(text)
        if text or suffix == "json":
            with pytest.raises(ConfigurationError, match="not valid"):
                PreloadPlan.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PreloadPlan.read(tmp_path / "absent.json")
