"""The memory planner knows every family: it runs their own steps on shapes, and finds what the same steps hold live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.tiny_cogvideox import save_cogvideox_i2v
from generators.tiny_hunyuan15 import save_hunyuan15
from generators.tiny_ltx import save_ltx
from generators.tiny_svd import save_svd
from generators.tiny_wan22 import save_wan22, save_wan22_i2v
from generators.tiny_wan_i2v import save_wan_i2v
from recipes.live import learn_total, live_bytes, shapes
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.base import Conditioning
from reelign.objectives import DPO
from reelign.recipes.generation import GenerateSettings
from reelign.recipes.objective_step import objective_step
from reelign.recipes.planning import plan
from reelign.recipes.reward_gradient_settings import RewardChoice, RewardGradientSettings
from reelign.recipes.settings import AlignSettings
from reelign.training import LoRA, PairBatch

OTHERS: dict[str, tuple[Callable[[Path], None], VideoSize]] = {
    "svd": (save_svd, VideoSize(2, 64, 64)),
    "wan-i2v": (save_wan_i2v, VideoSize(9, 16, 16)),
    "wan22": (save_wan22, VideoSize(9, 16, 16)),
    "wan22-i2v": (save_wan22_i2v, VideoSize(9, 16, 16)),
    "cogvideox-i2v": (lambda folder: save_cogvideox_i2v(folder, fifteen=False), VideoSize(9, 16, 16)),
    "hunyuan15-i2v": (lambda folder: save_hunyuan15(folder, image=True), VideoSize(9, 16, 16)),
    "ltx-condition": (lambda folder: save_ltx(folder, version="0.9.7", task="condition"), VideoSize(9, 64, 32)),
}
"""Families whose tests make a folder of their own."""
LEARN: dict[str, Any] = {"batch_size": 4, "micro_batch_size": 2, "lora": LoRA(rank=4)}


@pytest.fixture(scope="module")
def other_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VideoSize]:
    save, size = OTHERS[request.param]
    folder = tmp_path_factory.mktemp("planned") / request.param
    save(folder)
    return folder, size


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


def test_every_family_is_planned(family_folder: Path, family_size: VideoSize) -> None:
    planned_throughout(family_folder, family_size)


@pytest.mark.parametrize(
    "other_folder",
    [pytest.param(name, marks=() if name in ("svd", "wan22") else pytest.mark.slow) for name in OTHERS],
    indirect=True,
)
def test_the_others_are_planned_too(other_folder: tuple[Path, VideoSize]) -> None:
    planned_throughout(*other_folder)


def test_a_step_on_pairs_is_foreseen(family_folders: dict[str, Path]) -> None:
    foreseen(family_folders["ltx"], VideoSize(9, 96, 96))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mochi", "opensora", "hunyuan", "hunyuan15", "animatediff", "wan22-ti2v"])
def test_a_step_on_pairs_of_the_others_is_foreseen(name: str, family_folders: dict[str, Path]) -> None:
    frames = {"mochi": 13, "opensora": 17, "animatediff": 4}.get(name, 9)
    foreseen(family_folders[name], VideoSize(frames, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("other_folder", ["wan22", "wan-i2v", "svd", "hunyuan15-i2v"], indirect=True)
def test_a_step_of_several_experts_or_of_images_is_foreseen(other_folder: tuple[Path, VideoSize]) -> None:
    folder, size = other_folder
    foreseen(folder, VideoSize(size.num_frames, 64, 64))


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
