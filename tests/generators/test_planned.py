"""The memory planner knows every family: it runs their own steps on shapes, and finds what the same steps hold live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from generators.families import FAMILIES
from recipes.live import learn_total, live_bytes, shapes
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.base import Conditioning
from reelign.objectives import DPO
from reelign.recipes.planning.plan import plan
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.objective import objective_step
from reelign.training import LoRA, PairBatch

SLOW = (
    *("wan-i2v", "wan22-i2v", "cogvideox-5b", "cogvideox-i2v", "cogvideox-1.5-i2v", "videocrafter2"),
    *("hunyuan-i2v", "hunyuan15-i2v", "ltx-i2v", "ltx-condition", "opensora-image"),
)
"""Families planned much as another is: their sisters are planned at every run of the tests."""
LEARN: dict[str, Any] = {"batch_size": 4, "micro_batch_size": 2, "lora": LoRA(rank=4)}


def small(size: VideoSize, **settings: Any) -> GenerateSettings:
    return GenerateSettings(
        num_frames=size.num_frames, height=size.height, width=size.width, num_inference_steps=2, **settings
    )


def planned_throughout(folder: Path, size: VideoSize) -> None:
    """A plan of DPO and one of a reward's gradient come out, and both say what ran."""
    pairs = plan(shapes(folder), AlignSettings(objective=DPO(), **LEARN), small(size))
    assert [stage.name for stage in pairs.stages][-3:] == ["encode videos", "learn", "update weights"]
    assert pairs.forwards == {"without a graph": 8, "with a graph": 8}
    learned, encoded = pairs.stages[-2], pairs.stages[-3]
    assert {"denoiser", "latents"} <= set(learned.by)
    assert "encoder" in encoded.by
    climbing = RewardGradientSettings(
        batch_size=1, micro_batch_size=1, lora=LoRA(rank=4), reward=RewardChoice(name="sharpness")
    )
    found = plan(shapes(folder), climbing, small(size, guidance_scale=1.0))
    assert {"denoiser", "decoder", "reward"} <= set(found.stages[-2].by)
    assert found.peak.total > sum(found.peak.held.values())


@pytest.mark.parametrize(
    "family_folder",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FAMILIES],
    indirect=True,
)
def test_every_family_is_planned(family_folder: Path, family_size: VideoSize) -> None:
    planned_throughout(family_folder, family_size)


def test_a_step_on_pairs_is_foreseen(family_folders: dict[str, Path]) -> None:
    foreseen(family_folders["ltx"], VideoSize(9, 96, 96))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mochi", "opensora", "hunyuan", "hunyuan15", "animatediff", "wan22-ti2v"])
def test_a_step_on_pairs_of_the_others_is_foreseen(name: str, family_folders: dict[str, Path]) -> None:
    frames = {"mochi": 13, "opensora": 17, "animatediff": 4}.get(name, 9)
    foreseen(family_folders[name], VideoSize(frames, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan22", "wan-i2v", "svd", "hunyuan15-i2v"])
def test_a_step_of_several_experts_or_of_images_is_foreseen(name: str, family_folders: dict[str, Path]) -> None:
    foreseen(family_folders[name], VideoSize(FAMILIES[name].size.num_frames, 64, 64))


def foreseen(folder: Path, size: VideoSize) -> None:
    """DPO's plan is within 5 % of the live bytes."""
    settings = AlignSettings(objective=DPO(), **LEARN)
    found = plan(shapes(folder), settings, small(size))
    generator = load_generator(str(folder))
    batch = PairBatch(torch.randn(4, 2, *generator.latent_shape(size)), conditioning(generator, 4, size), seed=0)
    step = objective_step(settings, 1)
    measured = live_bytes(generator, settings, lambda policy: step.accumulate_gradients(policy, batch), batch=batch)
    assert learn_total(found) == pytest.approx(measured, rel=0.05)


def conditioning(generator: Generator, count: int, size: VideoSize) -> Conditioning:
    texts = generator.encode_prompts(["a red ring moves left"] * count)
    if not generator.needs_images:
        return texts
    return texts.joined(generator.encode_condition(torch.rand(count, 3, size.height, size.width), size))
