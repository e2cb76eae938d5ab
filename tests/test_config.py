"""Settings come from flags and variables, and a misspelt variable is noticed."""

import pytest

from server.config import unknown_variables


def test_a_variable_that_is_no_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_MAX_ROWZ", "3")
    monkeypatch.setenv("switchyard_max_rows", "3")
    monkeypatch.setenv("SWITCHYARD_VARIANT", "cpu")
    assert unknown_variables() == ["SWITCHYARD_MAX_ROWZ"]
