"""The times of loads are those of the engine's own tiers, by stage."""

from pathlib import Path

import pytest
import typer

from adapters_store import BaseDescription
from loadtest.load_times import _ranks, _table, _written, measure

MODULES = {f"model.layers.{layer}.mlp.up_proj": (96, 64) for layer in range(2)}


@pytest.mark.parametrize("dropped_cache", [False, True])
def test_each_rank_is_loaded_from_the_store_and_from_host_memory(tmp_path: Path, dropped_cache: bool) -> None:
    versions = _written(tmp_path, BaseDescription("tiny", "", MODULES), (2, 4))
    ended: list[None] = []
    figures = measure(
        versions,
        MODULES,
        repeats=3,
        device="cpu",
        dropped_cache=dropped_cache,
        advance=lambda: ended.append(None),
    )
    assert [(row["rank"], row["source"]) for row in figures] == [(2, "store"), (2, "host"), (4, "store"), (4, "host")]
    assert len(ended) == 24
    for row in figures:
        assert row["bytes"] >= 2 * row["rank"] * (96 + 64) * 4
        assert (row["hash"]["p50"] > 0) is (row["read"]["p50"] > 0) is (row["source"] == "store")
        assert 0 < row["copy"]["p50"] <= row["total"]["p50"] <= row["total"]["p99"]
    assert _table(figures).row_count == 4


@pytest.mark.parametrize("text", ["", "8,", "eight", "0", "8,-1"])
def test_ranks_are_positive_numbers(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        _ranks(text)
