"""Noise levels of models with two denoisers: a batch is one expert's, and both keep their share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from generators.tiny_wan22 import save_wan22
from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.objectives import DPO, SFT
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import check_sigma_range, draw_for
from reelign.recipes.steps.objective import objective_step
from reelign.training import (
    Draw,
    LoRA,
    PairBatch,
    Policy,
    ShuffledStream,
    Trainer,
    TrainerSettings,
    VideoBatch,
    velocity_errors,
)

HIGH, LOW = "transformer", "transformer_2"
BOUNDARY = 0.875


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("models") / "wan22"
    save_wan22(folder)
    return load_generator(str(folder))


def test_every_batch_is_one_experts_and_levels_keep_their_proportions(generator: Generator) -> None:
    """Uniform levels: an eighth of the batches is high noise, and over batches levels are uniform again."""
    batches = [draw_for((4, 0), AlignSettings(), generator, seed).sigma for seed in range(800)]
    high = torch.stack([(each >= BOUNDARY) for each in batches])
    assert (high.all(dim=1) | ~high.any(dim=1)).all()
    share, spread = float(high[:, 0].float().mean()), (0.125 * 0.875 / 800) ** 0.5
    assert abs(share - 0.125) < 4 * spread
    for levels, start, width in (
        (torch.cat([each for each in batches if each[0] >= BOUNDARY]), BOUNDARY, 1 - BOUNDARY),
        (torch.cat([each for each in batches if each[0] < BOUNDARY]), 0.0, BOUNDARY),
    ):
        within = ((levels - start) / width).sort().values
        steps = (torch.arange(len(within)) + 0.5) / len(within)
        assert (within - steps).abs().max() < 2 / len(within) ** 0.5  # Kolmogorov-Smirnov, far below 1e-3


@pytest.mark.parametrize(("name", "high"), [(HIGH, True), (LOW, False)])
def test_levels_of_an_expert_that_does_not_train_are_not_drawn(generator: Generator, name: str, high: bool) -> None:
    settings = AlignSettings(experts=(name,))
    check_sigma_range(settings, generator)
    sigma = draw_for((64, 0), settings, generator, 0).sigma
    assert ((sigma >= BOUNDARY) == high).all()


@pytest.mark.parametrize("objective", [SFT(), DPO(beta=20.0)], ids=lambda each: each.name)
def test_steps_lower_the_loss_of_both_experts(generator: Generator, objective: SFT | DPO, tmp_path: Path) -> None:
    """A shift of 7 puts the boundary at the median: half the steps are each one's."""
    model = load_generator(generator.model)
    settings = AlignSettings(objective=objective, shift=7.0)
    latents = torch.randn(4, 2, 16, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    latents += torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1, 1)
    conditioning, rows = model.encode_prompts(["a red square", "a disc"]), torch.tensor([0, 1, 0, 1])
    policy = Policy(model, LoRA(rank=4, alpha=4))
    stream: Any
    if isinstance(objective, SFT):
        stream = ShuffledStream(VideoBatch, latents[:, 0], conditioning, rows, batch_size=4, seed=0)
    else:
        stream = ShuffledStream(PairBatch, latents, conditioning, rows, batch_size=4, seed=0)
    trainer = TrainerSettings(steps=16, learning_rate=2e-2, checkpoint_every=16)
    Trainer(policy, stream, objective_step(settings, 128), trainer, tmp_path).train()
    for level in (0.95, 0.3):
        draw = Draw(torch.full((4,), level), torch.randn(4, 16, 2, 2, 2, generator=torch.Generator().manual_seed(2)))
        with torch.no_grad():
            sides = [velocity_errors(policy, latents[:, side], conditioning.take(rows), draw) for side in (0, 1)]
        gains = [float((each["reference"] - each["policy"]).mean()) for each in sides]
        assert (gains[0] if isinstance(objective, SFT) else gains[0] - gains[1]) > 0.05


def test_an_expert_outside_the_range_is_refused(generator: Generator) -> None:
    check_sigma_range(AlignSettings(sigma_range=(0.0, 0.5)), generator)
    with pytest.raises(ReelignError, match="experts names 'transformer_3'"):
        check_sigma_range(AlignSettings(experts=("transformer_3",)), generator)
    with pytest.raises(ReelignError, match=r"next to no noise level in sigma_range=.*experts=\['transformer'\]"):
        check_sigma_range(AlignSettings(sigma_range=(0.0, 0.5), experts=(HIGH,)), generator)
    with pytest.raises(ReelignError, match=r"experts names transformer, which .* never asks"):
        check_sigma_range(AlignSettings(sigma_range=(0.0, 0.5), experts=(HIGH, LOW)), generator)
