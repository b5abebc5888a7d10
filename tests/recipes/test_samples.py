"""Sample videos during a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from recipes.offline.test_align import SETTINGS, adapter, metrics
from reelign.generators import Generator, load_generator
from reelign.generators.encoders import encoders, is_away
from reelign.recipes.dry_run import dry_run
from reelign.recipes.offline.align import align
from reelign.recipes.offline.data import training_data
from reelign.recipes.samples import SampleSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.video import read_video

WATCHED = replace(SETTINGS, samples=SampleSettings(every=6, count=1))


@pytest.fixture
def lean(tiny_wan_folder: Path) -> Generator:
    return load_generator(str(tiny_wan_folder), encoders=False)


def test_base_and_policy_stand_side_by_side_from_step_0(
    judged: Workspace, lean: Generator, small: GenerateSettings, tiny_wan: Generator
) -> None:
    done = align(judged, lean, WATCHED, sampling=small)
    samples = done.folder / "samples"
    assert sorted(path.name for path in samples.iterdir()) == [
        "base",
        *(f"step-{step:06d}{suffix}" for step in (0, 6, 12) for suffix in ("", ".png")),
    ]
    videos = {name: read_video(samples / name / "1.mp4").frames for name in ("base", "step-000000", "step-000012")}
    assert torch.equal(videos["base"], videos["step-000000"])
    assert not torch.equal(videos["base"], videos["step-000012"])
    assert Image.open(samples / "step-000012.png").height > 2 * 16
    assert all(is_away(model) for model in encoders(lean).values())


def test_looking_on_changes_nothing_of_what_is_trained(
    judged: Workspace, tiny_wan_folder: Path, small: GenerateSettings
) -> None:
    model = str(tiny_wan_folder)
    plain = align(judged, load_generator(model), SETTINGS)
    watched = align(judged, load_generator(model), replace(WATCHED, run="watched"), sampling=small)
    one, two = adapter(plain.folder), adapter(watched.folder)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [row["loss"] for row in metrics(plain.folder)] == [row["loss"] for row in metrics(watched.folder)]


def test_a_run_may_go_on_with_other_samples_and_its_first_look_is_kept(
    judged: Workspace, tiny_wan_folder: Path, small: GenerateSettings
) -> None:
    model, short = str(tiny_wan_folder), replace(WATCHED, trainer=replace(SETTINGS.trainer, steps=6))
    first = align(judged, load_generator(model), short, sampling=small)
    sheet = first.folder / "samples" / "step-000000.png"
    made = sheet.stat().st_mtime_ns
    again = align(judged, load_generator(model), replace(short, trackers=(), samples=SampleSettings(every=3)))
    assert again.started_from == 6
    assert sheet.stat().st_mtime_ns == made


def test_a_dry_run_names_the_sheets(judged: Workspace, tiny_wan_folder: Path, small: GenerateSettings) -> None:
    outline = load_generator(str(tiny_wan_folder), weights=False)
    found = dry_run(judged, outline, WATCHED, training_data(judged, WATCHED), sampling=small)
    assert [path.name for path in found.files if path.suffix == ".png"] == [
        f"step-{step:06d}.png" for step in (0, 6, 12)
    ]
    assert {part.name: part.used for part in found.components}["vae"] == "at times"
    assert found.prompts_to_encode == 3  # two of the pairs and the negative one


def test_held_out_prompts_come_first(judged: Workspace) -> None:
    judged.add_prompts(["a blue square"], "held_out")
    settings = SampleSettings(every=1, count=2)
    assert settings.texts(judged, []) == ["a blue square", "a red square"]
    assert replace(settings, prompts=("a disc",)).texts(judged, []) == ["a disc"]
    assert SampleSettings().texts(judged, []) == []
