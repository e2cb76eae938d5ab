"""A store with many versions stays fast and small."""

import json
import sys
from typing import Any

import pytest

from loadtest.store_scale import scale


def check(figures: dict[str, Any]) -> None:
    """Bounds that a slow and busy machine keeps; docs/operations.md has what was measured."""
    assert figures["first page, cold"] < 5000
    assert figures["page, warm"]["p50"] < 50
    assert figures["list of all, warm"] < 1000
    assert figures["resolve, warm"]["p50"] < 0.5
    assert figures["publish"]["p50"] < 200
    assert figures["memory, all names read"] < 250
    assert figures["memory, five rounds later"] < figures["memory, all names read"] + 10


@pytest.mark.timeout(60)
def test_2_000_versions_of_100_names() -> None:
    check(scale(2_000, 100))


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_100_000_versions_of_2_000_names(capsys: pytest.CaptureFixture[str]) -> None:
    figures = scale(100_000, 2_000)
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(figures, indent=1)}\n")
    check(figures)
