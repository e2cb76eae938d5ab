"""`python -m loadtest kernels` has a figure for each kernel, number of rows and number of adapters."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from server.kernels.native_library import LIBRARY

pytestmark = pytest.mark.skipif(not LIBRARY.is_file(), reason=f"{LIBRARY.name} was not built (no C++ compiler?)")
QUICK = ["kernels", "--layers", "1", "--repeats", "1"]


def test_combinations_with_a_row_for_each_adapter_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    flags = ["--rows", "1,3", "--adapters", "0,1,3", "--json", "--out", str(out)]
    finished = CliRunner().invoke(app, [*QUICK, *flags])
    assert finished.exit_code == 0, finished.output
    report = json.loads(out.read_text())
    assert {(figure["rows"], figure["adapters"]) for figure in report["figures"]} == {
        (1, 0), (1, 1), (3, 0), (3, 1), (3, 3)
    }  # fmt: skip
    assert "reference" in {figure["kernel"] for figure in report["figures"]}
    assert all(figure["seconds"] > 0 and figure["limit_seconds"] > 0 for figure in report["figures"])


def test_what_is_no_list_of_numbers_is_a_wrong_usage() -> None:
    assert CliRunner().invoke(app, [*QUICK, "--rows", "many"]).exit_code == 2
