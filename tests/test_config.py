"""Settings come from flags and variables, and a misspelt variable is noticed."""

import pytest
from pydantic import ValidationError

from server.config import Settings, unknown_variables


def test_a_variable_that_is_no_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_MAX_ROWZ", "3")
    monkeypatch.setenv("switchyard_max_rows", "3")
    monkeypatch.setenv("SWITCHYARD_VARIANT", "cpu")
    assert unknown_variables() == ["SWITCHYARD_MAX_ROWZ"]


@pytest.mark.parametrize("tokens", [-1, 1, 15])
def test_a_step_of_fewer_than_16_tokens_is_refused(tokens: int) -> None:
    with pytest.raises(ValidationError, match="max_batch_tokens"):
        Settings(max_batch_tokens=tokens)


@pytest.mark.parametrize("tokens", [0, 16])
def test_a_step_has_16_tokens_or_more_or_what_suits_the_device(tokens: int) -> None:
    assert Settings(max_batch_tokens=tokens).max_batch_tokens == tokens
