"""The recipe files of reward gradients: valid settings, rewards that have a gradient, schedules and clips that fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from reelign.config import read_yaml, resolve
from reelign.opening import SECTIONS, resolve_section
from reelign.recipes.reward_gradient.latent import folder_of
from reelign.recipes.reward_gradient.scoring import differentiable_rewards
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.rewards.opening import card_of, check_reward

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes" / "reward-gradient").glob("*.yaml"))


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def settings_of(recipe: Path) -> RewardGradientSettings:
    found = resolve_section("align", [(str(recipe), read_yaml(recipe)["align"])])
    assert isinstance(found, RewardGradientSettings)
    return found


def test_there_is_one_for_each_reward_promised() -> None:
    rewards = [settings_of(recipe).reward for recipe in RECIPES]
    parts = [part["reward"] for each in rewards for part in each.options.get("parts", [])]
    promised = {"aesthetic", "hpsv2", "pickscore", "yolos", "videomae", "videoreward", "vjepa2", "imagereward"}
    assert promised <= {*(each.name for each in rewards), *parts}


def test_every_section_is_valid_and_its_rewards_open_so(recipe: Path) -> None:
    sections = read_yaml(recipe)
    for name, section in sections.items():
        if name != "align":
            assert resolve(SECTIONS[name], [(str(recipe), section)])
    settings, size = settings_of(recipe), sections["generate"]
    sigmas = torch.linspace(1, 0, size["num_inference_steps"] + 1)
    assert settings.gradient.route(sigmas, torch.Generator()).graded == 1
    if folder_of(settings) is not None:  # its reward is trained first, by another section
        assert set(settings.objective.weights) == set(sections["latent_reward"]["dimensions"])
        assert folder_of(settings) == Path("wan/runs/latent-reward/latent_reward")
        return
    parts = settings.reward.options.get("parts", [{"reward": settings.reward.name}])
    known = differentiable_rewards()
    frames = settings.frames.count or size["num_frames"]
    for part in parts:
        assert part["reward"] in known
        assert card_of(part["reward"]).frames_needed <= frames
        assert set(part.get("weights", {})) <= set(card_of(part["reward"]).dimensions)
        if part["reward"] == "joints":
            joined = {name: part["options"][name] for name in ("segments", "segment_frames")}
            assert joined == {"segments": size["segments"], "segment_frames": size["num_frames"]}
            assert (settings.through, part["options"]["which"]) == ("last", "last")
    check_reward(settings.reward.name, **settings.reward.options)
    dimensions = card_of(settings.reward.name).dimensions
    assert set(settings.objective.weights) <= set(dimensions)
    assert settings.objective.weights or len(dimensions) == 1
    settings.frames.check(size["num_frames"])


def test_what_ends_the_run_is_not_what_it_trains_on(recipe: Path) -> None:
    settings = settings_of(recipe)
    assert settings.watch.held_out
    assert settings.reward.name not in settings.watch.held_out
    assert settings.watch.action == "roll_back"


def test_its_header_calls_it_by_its_name_and_every_number_has_a_reason(recipe: Path) -> None:
    text = recipe.read_text()
    folder = {"modelscope": "ms", "svd": "svd"}.get(recipe.stem.partition("-")[0], "wan")
    assert f"cp recipes/reward-gradient/{recipe.name} {folder}/reelign.yaml" in text
    lines = text.splitlines()
    numbers = [line for line in lines[lines.index("align:") :] if re.search(r": [\d.-]", line)]
    assert [line for line in numbers if "#" not in line] == []
