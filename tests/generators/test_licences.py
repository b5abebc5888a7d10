"""The page of families: every family's licence, a model to start with, every recipe."""

from __future__ import annotations

import re
from pathlib import Path

from reelign.generators import GENERATORS
from reelign.generators.licences import LICENCES
from reelign.generators.published import published_configs

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_every_family_has_the_licence_that_its_row_has() -> None:
    assert set(LICENCES) == set(GENERATORS)
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for name, licence in LICENCES.items():
        told = {row[7].strip() for row in rows if f"`{name}`" in row[2]}
        assert licence in told, (name, told)


def test_every_family_has_a_model_to_start_with_and_every_recipe_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = published_configs()
    for pipeline in {config["_class_name"] for config in known.values()}:
        models = [model for model, config in known.items() if config["_class_name"] == pipeline]
        assert any(model in page or model.rpartition("-Diffusers-")[2] in page for model in models), pipeline
    recipes = {path.name for path in (PAGE.parents[1] / "recipes").glob("*.yaml")}
    assert set(re.findall(r"`([\w.-]+\.yaml)`", page)) == recipes


def test_recipes_start_with_models_that_are_known_or_made() -> None:
    """Their headers' `reelign init --model`: a hub id that the page names, or a folder that it makes."""
    for path in (PAGE.parents[1] / "recipes").glob("*.yaml"):
        (model,) = re.findall(r"reelign init \S+ --model (\S+)", path.read_text())
        page = PAGE.read_text(encoding="utf-8")
        assert f"`{model}`" in page or f"--model {model} " in page, (path, model)
