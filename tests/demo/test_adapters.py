"""The adapters that are committed."""

import json
from pathlib import Path

import pytest

from adapters_store import AdapterStore, parse_adapter_name
from server.demo.command import ADAPTERS
from server.demo.recipe import RECIPES, Recipe


def name_of(recipe: Recipe) -> str:
    return recipe.task.adapter


def test_there_is_one_for_each_recipe_and_nothing_else() -> None:
    assert {path.name for path in ADAPTERS.iterdir()} == {recipe.task.adapter for recipe in RECIPES}
    for directory in ADAPTERS.iterdir():
        assert {path.name for path in directory.iterdir()} == {
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
        }


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_each_is_published_as_its_recipe_says(recipe: Recipe, tmp_path: Path) -> None:
    directory = ADAPTERS / recipe.task.adapter
    publication = AdapterStore(tmp_path).publish(parse_adapter_name(recipe.task.adapter), directory)
    metadata = publication.version.metadata
    assert (metadata.rank_min, metadata.rank_max) == (recipe.rank, recipe.rank)
    assert set(metadata.target_modules) == set(recipe.targets)
    assert metadata.dtype == "F16"
    assert json.loads((directory / "adapter_config.json").read_text())["use_rslora"] is recipe.rslora


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_each_names_its_base_and_not_a_path_of_the_machine_that_made_it(recipe: Recipe) -> None:
    text = (ADAPTERS / recipe.task.adapter / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "smollm2-135m"
    assert "/" not in text


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_each_says_where_its_data_comes_from_and_under_which_licence(recipe: Recipe) -> None:
    card = (ADAPTERS / recipe.task.adapter / "README.md").read_text(encoding="utf-8")
    assert "Unicode CLDR" in card
    assert "Unicode License" in card
    assert f"rank {recipe.rank}" in card
    assert "Held-out dates exactly right" in card


def test_together_they_are_small_enough_to_commit() -> None:
    assert sum(path.stat().st_size for path in ADAPTERS.rglob("*") if path.is_file()) < 12e6
