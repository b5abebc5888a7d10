"""Every family learns: its native loss is the default error, SFT and DPO steps lower theirs, plain diffusers takes the
adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from generators.pipelines import (
    PROMPTS,
    as_held,
    assert_close,
    by_pipeline,
    by_reelign,
    said_by,
    timesteps_at,
    training_pair,
)
from reelign.diffusion.paths import RectifiedFlow
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.objectives.dpo import DPO
from reelign.objectives.sft import sft_loss
from reelign.training import (
    Draw,
    LoRA,
    PairBatch,
    Policy,
    ShuffledStream,
    Trainer,
    TrainerSettings,
    VideoBatch,
    load_adapter,
    make_draw,
    velocity_errors,
)

STEPS = 8
TRAINER = TrainerSettings(steps=STEPS, learning_rate=2e-2, checkpoint_every=STEPS)


@pytest.fixture
def family(own_family: Generator) -> Generator:
    return own_family


@pytest.fixture
def pairs(family: Generator, family_size: VideoSize) -> Tensor:
    """(4, 2, C, F, H, W); chosen and rejected differ by their mean."""
    latents = torch.randn(4, 2, *family.latent_shape(family_size), generator=torch.Generator().manual_seed(1))
    latents[:, 0] += 1
    latents[:, 1] -= 1
    return latents


@pytest.fixture
def policy(family: Generator) -> Policy:
    return Policy(family, LoRA(rank=4, alpha=4))


def draw_for(policy: Policy, latents: Tensor, seed: int = 0) -> Draw:
    return make_draw(
        latents.shape,
        path=policy.generator.path,
        distribution="uniform",
        shift=1.0,
        generator=generator_from("draw", seed),
        device=torch.device("cpu"),
    )


class Learn:
    """One micro-batch of SFT or DPO: fresh draws, the family's default weight."""

    def __init__(self, objective: DPO | None) -> None:
        self.objective = objective

    def accumulate_gradients(self, policy: Policy, batch: Any) -> dict[str, float]:
        pairs = self.objective is not None
        draw = draw_for(policy, batch.latents[:, 0] if pairs else batch.latents, batch.seed)
        conditioning = batch.conditioning
        if pairs:
            rows = torch.arange(len(batch.latents)).repeat_interleave(2)
            draw, conditioning = draw.repeat(2), conditioning.take(rows)
        latents = batch.latents.flatten(0, 1) if pairs else batch.latents
        errors = velocity_errors(policy, latents, conditioning, draw)
        loss = sft_loss(errors["policy"]).mean() if self.objective is None else dpo(self.objective, errors)
        loss.backward()
        return {"loss": float(loss.detach())}


def dpo(objective: DPO, errors: dict[Any, Tensor]) -> Tensor:
    return objective(errors["policy"].unflatten(0, (-1, 2)), errors["reference"].unflatten(0, (-1, 2))).mean()


def train(policy: Policy, latents: Tensor, objective: DPO | None, folder: Path) -> None:
    """SFT on the chosen videos, or DPO."""
    conditioning, rows = policy.generator.encode_prompts(PROMPTS), torch.tensor([0, 1, 0, 1])
    stream: Any
    if objective is None:
        stream = ShuffledStream(VideoBatch, latents[:, 0], conditioning, rows, batch_size=4, seed=0)
    else:
        stream = ShuffledStream(PairBatch, latents, conditioning, rows, batch_size=4, seed=0)
    Trainer(policy, stream, Learn(objective), TRAINER, folder).train()


def test_the_default_error_is_the_loss_that_the_family_was_pretrained_on(
    family: Generator, policy: Policy, pairs: Tensor
) -> None:
    """Mean squared error on the scheduler's own noisy latents and target, in the model's own layout."""
    latents = pairs[:, 0]
    draw = draw_for(policy, latents)
    conditioning = family.encode_prompts(PROMPTS * 2)
    timesteps = timesteps_at(family, draw.sigma)
    if not isinstance(family.path, RectifiedFlow):
        assert torch.equal(family.path.sigmas[timesteps], draw.sigma)  # type: ignore[attr-defined]
    fed, target = training_pair(family, latents, draw.noise, draw.sigma)
    with torch.no_grad():
        said = said_by(family, fed, timesteps, conditioning)
    expected = (said - target).square().flatten(1).mean(dim=1)
    errors = velocity_errors(policy, latents, conditioning, draw)
    torch.testing.assert_close(errors["reference"], expected, rtol=2e-4, atol=1e-5)
    torch.testing.assert_close(errors["policy"], expected, rtol=2e-4, atol=1e-5)


def test_a_perfect_model_has_no_error(
    family: Generator, policy: Policy, pairs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all training levels, the family's scaling of input and output included."""
    latents = pairs[:, 0]
    draw = draw_for(policy, latents)
    denoiser = next(iter(family.denoisers.values()))
    _, answer = training_pair(family, latents, draw.noise, draw.sigma)
    answer = as_held(family.pipeline, answer)
    monkeypatch.setattr(denoiser, "forward", lambda *_, **__: (answer,))
    for error in velocity_errors(policy, latents, family.encode_prompts(PROMPTS * 2), draw).values():
        assert error.max() < 1e-8


def test_sft_steps_lower_the_error(policy: Policy, pairs: Tensor, tmp_path: Path) -> None:
    draw, conditioning = draw_for(policy, pairs[:, 0]), policy.generator.encode_prompts(PROMPTS * 2)
    train(policy, pairs, None, tmp_path)
    with torch.no_grad():
        after = velocity_errors(policy, pairs[:, 0], conditioning, draw)
    assert after["policy"].mean() < 0.95 * after["reference"].mean()


def test_dpo_steps_lower_the_loss(policy: Policy, pairs: Tensor, tmp_path: Path) -> None:
    draw = draw_for(policy, pairs[:, 0]).repeat(2)
    rows = torch.tensor([0, 1, 0, 1]).repeat_interleave(2)
    conditioning = policy.generator.encode_prompts(PROMPTS).take(rows)
    objective = DPO(beta=20.0)
    train(policy, pairs, objective, tmp_path)
    with torch.no_grad():
        after = velocity_errors(policy, pairs.flatten(0, 1), conditioning, draw)
    assert dpo(objective, after) < 0.5 < torch.log(torch.tensor(2.0))


def test_the_adapter_samples_the_same_in_plain_diffusers(
    policy: Policy,
    pairs: Tensor,
    loaded: dict[str, Generator],
    family_folder: Path,
    family_size: VideoSize,
    tmp_path: Path,
) -> None:
    family = policy.generator
    base = by_reelign(loaded[family_folder.name], family_size, 5.0)
    train(policy, pairs, None, tmp_path / "run")
    ours = by_reelign(family, family_size, 5.0)
    assert (ours - base).abs().max() > 1e-2
    file = policy.save(tmp_path / "adapter")

    plain: Any = type(family.pipeline).from_pretrained(family_folder, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    component = next(iter(family.denoisers))
    if hasattr(getattr(plain, component), "load_lora_adapter"):
        plain.load_lora_weights(tmp_path / "adapter")
    else:
        into_the_model(getattr(plain, component), component, file)
    assert_close(ours, by_pipeline(plain, family, family_size, 5.0))

    again = load_generator(str(family_folder))
    load_adapter(again, tmp_path / "adapter")
    assert_close(by_reelign(again, family_size, 5.0), ours)


def into_the_model(
    denoiser: torch.nn.Module,
    component: str,
    file: Path,
    targets: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0"),
) -> None:
    """ModelScope's pipeline cannot load adapters (its U-Net has no `load_lora_adapter`); peft alone can."""
    layers = {name.removeprefix(f"{component}."): tensor for name, tensor in load_file(file).items()}
    config = LoraConfig(r=4, lora_alpha=4, target_modules=list(targets))
    inject_adapter_in_model(config, denoiser)
    refused = set_peft_model_state_dict(denoiser, layers)
    assert not refused.unexpected_keys
    assert not [name for name in refused.missing_keys if "lora_" in name]


def test_an_adapter_of_another_family_is_refused(family: Generator, tiny_wan: Generator, tmp_path: Path) -> None:
    file = Policy(tiny_wan, LoRA(rank=2)).save(tmp_path)
    with pytest.raises(ReelignError, match=r"does not fit|No weight|could not be loaded") as caught:
        load_adapter(family, file)
    # Of Wan 2.1 and 2.2 the layers' names are the same, and their widths are not.
    alike = "size mismatch" in str(caught.value)
    assert alike == (type(family).__name__ == "Wan22TI2V")
    assert alike or next(iter(family.denoisers)) in caught.value.mend


def test_the_reference_is_the_base_bit_for_bit(
    policy: Policy, pairs: Tensor, loaded: dict[str, Generator], family_folder: Path, tmp_path: Path
) -> None:
    base, family = loaded[family_folder.name], policy.generator
    train(policy, pairs, None, tmp_path)
    noisy, sigma = pairs[:, 0], family.path.training_sigmas(torch.tensor([0.1, 0.4, 0.6, 0.9]))
    conditioning = base.encode_prompts(PROMPTS * 2)
    with torch.no_grad():
        expected = base.velocity(noisy, sigma, conditioning)
        with policy.using("reference"):
            assert torch.equal(family.velocity(noisy, sigma, conditioning), expected)
        assert not torch.equal(family.velocity(noisy, sigma, conditioning), expected)


def test_activation_checkpointing_keeps_gradients_and_saves_memory(
    policy: Policy, family: Generator, pairs: Tensor
) -> None:
    def gradients_and_kept() -> tuple[dict[str, Tensor], int]:
        """Also the bytes that autograd itself holds for the backward pass; a rerun block's inputs come on top."""
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        for parameter in policy.parameters.values():
            parameter.grad = None
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            draw = draw_for(policy, pairs[:, 0])
            conditioning = family.encode_prompts(PROMPTS * 2)
            loss = velocity_errors(policy, pairs[:, 0], conditioning, draw)["policy"].mean()
            kept = sum(storages.values())
        loss.backward()
        return {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}, kept

    for name, parameter in policy.parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain, kept = gradients_and_kept()
    family.enable_activation_checkpointing()
    family.enable_activation_checkpointing()  # twice is once
    again, kept_again = gradients_and_kept()
    assert plain.keys() == again.keys() == policy.parameters.keys()
    for name in plain:
        torch.testing.assert_close(again[name], plain[name])
    assert kept_again < 0.5 * kept
