"""What an alignment would do, without doing it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recipes.offline.test_align import SETTINGS
from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.generators.encoders import is_away
from reelign.objectives import KTO, RWR, SFT
from reelign.recipes.dry_run import dry_run
from reelign.recipes.offline.align import align
from reelign.recipes.offline.data import training_data
from reelign.records import Workspace
from reelign.training import MonitorSettings


@pytest.fixture
def outline(tiny_wan_folder: Path) -> Generator:
    return load_generator(str(tiny_wan_folder), weights=False)


def files_of(workspace: Workspace) -> set[Path]:
    return {path for path in workspace.root.rglob("*") if not path.name.startswith("reelign.db")}


def test_it_says_what_align_then_does(judged: Workspace, outline: Generator, tiny_wan: Generator) -> None:
    before = files_of(judged)
    found = dry_run(judged, outline, SETTINGS, training_data(judged, SETTINGS))
    assert files_of(judged) == before
    assert all(is_away(model) for model in outline.denoisers.values())
    assert (found.pairs, found.samples, found.held_out, found.prompts_to_encode) == (6, 6, 0, 2)
    assert found.epochs == 12.0
    assert {part.name: part.used for part in found.components} == {
        "transformer": "training",
        "text_encoder": "at times",
        "vae": "",
    }
    done = align(judged, tiny_wan, SETTINGS)
    assert (done.samples, found.model) == (found.samples, tiny_wan.identity)
    assert all(path.exists() for path in found.files)
    parameters = (each for each in tiny_wan.pipeline.transformer.parameters() if each.requires_grad)
    assert found.trainable == sum(each.numel() for each in parameters)


def test_a_run_that_goes_on_and_one_that_may_not(judged: Workspace, tiny_wan: Generator, tiny_wan_folder: Path) -> None:
    data = training_data(judged, SETTINGS)
    align(judged, tiny_wan, SETTINGS)
    again = dry_run(judged, load_generator(str(tiny_wan_folder), weights=False), SETTINGS, data)
    assert (again.goes_on_from, again.prompts_to_encode) == (12, 0)
    other, outline = replace(SETTINGS, seed=1), load_generator(str(tiny_wan_folder), weights=False)
    with pytest.raises(ReelignError, match="other settings or other data"):
        dry_run(judged, outline, other, data)
    assert dry_run(judged, outline, other, data, anew=True).goes_on_from == 0


@pytest.mark.parametrize("objective", [SFT(), SFT(on="random"), RWR(), KTO()], ids=["sft", "random", "rwr", "kto"])
def test_every_objective_counts_its_own_samples(
    judged: Workspace, outline: Generator, tiny_wan: Generator, objective: SFT | RWR | KTO
) -> None:
    settings = replace(SETTINGS, objective=objective, trainer=replace(SETTINGS.trainer, steps=1))
    found = dry_run(judged, outline, settings, training_data(judged, settings))
    assert found.samples == align(judged, tiny_wan, settings).samples


def test_held_out_pairs_are_told_apart(judged: Workspace, outline: Generator) -> None:
    settings = replace(SETTINGS, monitor=MonitorSettings(held_out=0.5))
    found = dry_run(judged, outline, settings, training_data(judged, settings))
    assert (found.pairs, found.samples, found.held_out) == (6, 3, 3)


def test_the_files_of_full_fine_tuning_are_promised_by_their_names(
    judged: Workspace, outline: Generator, tiny_wan: Generator
) -> None:
    settings = replace(SETTINGS, lora=None, trainer=replace(SETTINGS.trainer, steps=1))
    found = dry_run(judged, outline, settings, training_data(judged, settings))
    align(judged, tiny_wan, settings)
    assert [path for path in found.files if not path.exists()] == []
