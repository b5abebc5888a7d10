"""A workspace of the tiny Wan with two prompts and their judged candidates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recipes.judges import Brightness
from reelign.generators import load_generator
from reelign.recipes.generation import generate
from reelign.recipes.judging import JudgeSettings, judge
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace

PROMPTS = ["a red square", "a blue disc moves"]


@pytest.fixture(scope="session")
def small() -> GenerateSettings:
    return GenerateSettings(
        candidates=3, num_inference_steps=2, guidance_scale=3.0, num_frames=9, height=16, width=16, fps=8, batch_size=4
    )


@pytest.fixture
def empty(tmp_path: Path, tiny_wan_folder: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "empty", model=str(tiny_wan_folder))
    workspace.add_prompts(PROMPTS, "train")
    return workspace


@pytest.fixture(scope="session")
def judged_folder(tmp_path_factory: pytest.TempPathFactory, tiny_wan_folder: Path, small: GenerateSettings) -> Path:
    workspace = Workspace.create(tmp_path_factory.mktemp("workspaces") / "judged", model=str(tiny_wan_folder))
    workspace.add_prompts(PROMPTS, "train")
    generate(workspace, load_generator(str(tiny_wan_folder)), small)
    judge(workspace, [Brightness()], JudgeSettings())
    return workspace.root


@pytest.fixture
def judged(judged_folder: Path, tmp_path: Path) -> Workspace:
    """A copy of its own, so that a test may add to it."""
    return Workspace.open(shutil.copytree(judged_folder, tmp_path / "judged"))
