"""The recipe files: valid settings, stated memory, launch presets that accelerate takes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from reelign.config import parse_overrides, read_yaml
from reelign.errors import ReelignError
from reelign.iterating import plan_iteration
from reelign.opening import WORKSPACE_CONFIG, resolve_section, settings_of
from reelign.recipes.online.settings import OnlineSettings
from reelign.records import Workspace
from reelign.stages import plan_alignment
from reelign.video import write_video

ROOT = Path(__file__).parent.parent
MODELS = ("cogvideox-2b", "wan2.1-1.3b")
METHODS = ("dpo", "online")
SLOW = {"online": pytest.mark.slow}
"""A step of theirs is that of the pairs, counted once more."""
RECIPES = sorted(path for method in METHODS for path in (ROOT / "recipes").glob(f"*-{method}.yaml"))
"""Of `align` alone."""
MEASURED = [ROOT / "recipes" / f"{model}-{method}.yaml" for model in MODELS for method in METHODS]
"""Those whose memory at full size stands in their header; the others say how it is found out."""
GIB = 2**30
PLANNED = re.compile(
    r"^# Planned memory: (?:\d+\.\d GiB to train, \d+\.\d to encode before.* 2\d{3}-\d\d-\d\d|none, )", re.M
)
PRESETS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_is_one_for_each_model_promised() -> None:
    assert not set(MEASURED) - set(RECIPES)
    further = [path.read_text() for path in RECIPES if path not in MEASURED]
    assert not [text for text in further if "--dry-run" not in text or "measured on a GPU" not in text]
    assert [path.stem for path in PRESETS] == ["ddp", "fsdp2", "single-gpu"]


def test_each_says_what_was_planned_of_its_memory() -> None:
    folders = (ROOT / "recipes", ROOT / "recipes" / "reward-gradient")
    files = [path for folder in folders for path in folder.glob("*.yaml")]
    assert {path.name: len(PLANNED.findall(path.read_text())) for path in files} == {path.name: 1 for path in files}


def test_every_section_is_valid(recipe: Path) -> None:
    for name, section in read_yaml(recipe).items():
        assert resolve_section(name, [(str(recipe), section)])


def test_it_is_a_workspaces_settings_and_a_commands(recipe: Path, tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", model="spriteworld")
    layer = (str(recipe), read_yaml(recipe))
    named = settings_of(workspace, "align", [layer])
    (workspace.root / WORKSPACE_CONFIG).write_text(recipe.read_text())
    assert settings_of(workspace, "align") == named
    assert named.lora.rank == layer[1]["align"]["lora"]["rank"]
    assert settings_of(workspace, "generate", [layer]).height == layer[1]["generate"]["height"]


def test_another_commands_settings_among_the_words_are_refused(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", model="spriteworld")
    with pytest.raises(ReelignError, match="there is no key 'evaluate'"):
        settings_of(workspace, "align", [parse_overrides(["evaluate.seeds=4"])])


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=SLOW.get(path.stem.rpartition("-")[2], ()), id=path.stem) for path in MEASURED]
)
def test_memory_is_stated_as_it_was_computed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    found = importlib.import_module("recipe_memory").memory(path)
    parts = [f"{name.replace('gradients', 'gradients of a pair')} {size / GIB:.2f}" for name, size in found.items()]
    text = path.read_text()
    assert f"# Expected memory of a training process: {sum(found.values()) / GIB:.1f} GiB" in text
    assert f"# {', '.join(parts)} GiB" in text
    assert f"benchmarks/recipe_memory.py recipes/{path.name}" in text


@pytest.mark.parametrize("model", MODELS)
def test_its_command_takes_a_file_of_pairs(model: str, tiny_wan_folder: Path, tmp_path: Path) -> None:
    """The line of its header, with a miniature in the model's place; of two prompts one is held out."""
    recipe = ROOT / "recipes" / f"{model}-dpo.yaml"
    workspace = Workspace.create(tmp_path / "ws", model=str(tiny_wan_folder))
    (workspace.root / WORKSPACE_CONFIG).write_text(recipe.read_text())
    rows = ["prompt,chosen,rejected"]
    for name, prompt in (("one", "a red square"), ("two", "a blue disc")):
        for side, light in (("chosen", 0.8), ("rejected", 0.2)):
            write_video(tmp_path / f"{name}-{side}.mp4", torch.full((9, 3, 16, 16), light), 8)
        rows.append(f"{prompt},{name}-chosen.mp4,{name}-rejected.mp4")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    assert "--pairs pairs.csv" in recipe.read_text()
    found = plan_alignment(workspace.root, pairs=tmp_path / "pairs.csv", lora={"rank": 2})
    assert (found.pairs, found.samples, found.held_out) == (2, 1, 1)


@pytest.mark.parametrize("model", MODELS)
def test_an_online_recipe_says_what_it_would_make(model: str, tiny_wan_folder: Path, tmp_path: Path) -> None:
    """With a miniature in the model's place, which makes other sizes."""
    recipe = ROOT / "recipes" / f"{model}-online.yaml"
    workspace = Workspace.create(tmp_path / "ws", model=str(tiny_wan_folder))
    workspace.add_prompts(["a red square", "a blue disc"], "train")
    (workspace.root / WORKSPACE_CONFIG).write_text(recipe.read_text())
    small = {"num_frames": 33, "height": 16, "width": 16}
    found = plan_alignment(workspace.root, lora={"rank": 2}, rollout=small)
    settings = found.settings
    assert isinstance(settings, OnlineSettings)
    assert (found.prompts, settings.reference.name, settings.watch.action) == (2, "curriculum", "roll_back")
    assert "6,000 videos are sampled and judged" in "\n".join(found.told)
    with pytest.raises(ReelignError, match="makes its videos itself"):
        plan_alignment(workspace.root, pairs=tmp_path / "pairs.csv")


def test_every_number_of_the_training_has_its_reason(recipe: Path) -> None:
    lines = recipe.read_text().splitlines()
    numbers = [line for line in lines[lines.index("align:") : lines.index("evaluate:")] if re.search(r": [\d.]", line)]
    assert [line for line in numbers if "#" not in line] == []


@pytest.mark.parametrize("model", ["wan2.1-1.3b", "cogvideox-2b"])
def test_a_recipe_of_rounds_trains_what_its_model_does_in_one(
    model: str, tiny_wan_folder: Path, tmp_path: Path
) -> None:
    """So that what that one says of its memory holds; what it would do is asked of a miniature in the model's place."""
    path = ROOT / "recipes" / f"{model}-iterate.yaml"
    rounds, plain = (read_yaml(ROOT / "recipes" / f"{model}-{method}.yaml") for method in ("iterate", "dpo"))
    alike = ("lora", "micro_batch_size", "pairing", "objective")
    assert {name: rounds["align"][name] for name in alike} == {name: plain["align"][name] for name in alike}
    assert rounds["align"]["trainer"]["activation_checkpointing"] == "full"
    assert f"recipes/{model}-dpo.yaml" in path.read_text()
    workspace = Workspace.create(tmp_path / "ws", model=str(tiny_wan_folder))
    for split, texts in (("train", ["a red disc"]), ("selection", ["a", "b"]), ("held_out", ["c", "d"])):
        workspace.add_prompts(texts, split)
    (workspace.root / WORKSPACE_CONFIG).write_text(path.read_text())
    found = plan_iteration(workspace.root)
    assert [plan.align.anchors.chosen for plan in found.plans] == [0.2] * 3
    assert (found.candidates, found.looked) == (3, {"selection": 4, "report": 4})


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_accelerate_takes_the_presets(preset: Path) -> None:
    found: Any = load_config_from_file(str(preset))
    plain = yaml.safe_load(preset.read_text())
    assert found.num_processes == plain["num_processes"]
    parsed = launch_command_parser().parse_args(["--config_file", str(preset), "-m", "reelign", "align"])
    assert (parsed.training_script, parsed.module) == ("reelign", True)
    if preset.stem == "fsdp2":
        assert found.fsdp_config["fsdp_version"] == 2
