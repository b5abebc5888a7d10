"""Latent rewards on disk: a folder that knows which generator it belongs to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from reelign.errors import ReelignError
from reelign.files import whole, write_text
from reelign.generators.base import Generator
from reelign.generators.trunk import make_trunk, weights_mark
from reelign.training.latent_reward import LatentReward, LatentRewardShape, QueryHead, add_adapter
from reelign.training.lora import LoRA

WEIGHTS = "latent_reward.safetensors"
DESCRIPTION = "latent_reward.json"


def save_latent_reward(reward: LatentReward, folder: Path) -> Path:
    """Write weights and description; returns the folder."""
    own = {name: each.detach().cpu().contiguous() for name, each in reward.trained_parameters().items()}
    with whole(folder / WEIGHTS) as beside:
        save_file(own, beside)
    described = {
        "generator": reward.generator.identity,
        "shared": "" if reward.settings.train == "full" else weights_mark(reward.trunk),
        "shape": asdict(reward.settings),
    }
    # Last, so that a folder with a description is whole.
    write_text(folder / DESCRIPTION, json.dumps(described, indent=1))
    return folder


def read_shape(folder: Path | str) -> LatentRewardShape:
    """What a saved reward is made of, without its weights.

    Raises:
        ReelignError: no latent reward there.
    """
    shape = _described(Path(folder))["shape"]
    lists = {name: tuple(shape[name]) for name in ("dimensions", "mean", "std")}
    lora = shape["lora"] and LoRA(**{**shape["lora"], "targets": tuple(shape["lora"]["targets"])})
    return LatentRewardShape(**{**shape, **lists, "lora": lora})


def load_latent_reward(path: Path | str, generator: Generator) -> LatentReward:
    """The reward in a folder, over the generator that it was trained with; no gradients on its weights.

    The generator may carry an adapter, whose layers the reward does without, as it was trained.

    Raises:
        ReelignError: no latent reward there, one of another model or VAE, or weights that do not fit.
    """
    folder = Path(path)
    described = _described(folder)
    check_generator(folder, generator)
    shape = read_shape(folder)
    trunk: Any = make_trunk(generator, shape.blocks, weights="copied" if shape.train == "full" else "shared")
    if shape.train != "full" and weights_mark(trunk) != described["shared"]:
        raise ReelignError(
            f"The latent reward {folder} reads the base's own blocks, and those of this generator were trained.",
            "Guide the base or an adapter on it, or train the reward with train=full, which has blocks of its own.",
        )
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ReelignError(f"{folder / WEIGHTS} cannot be read: {error}", "Train the reward again.") from error
    if shape.train == "lora":
        add_adapter(trunk, shape.lora or LoRA(), generator.lora_targets)
    reward = LatentReward(generator, shape, trunk, _head(weights, shape).to(generator.device))
    _load_strictly(reward, weights, folder)
    return reward.requires_grad_(False)


def check_generator(folder: Path, generator: Generator) -> None:
    """Refuse a reward of another model or VAE; a model's folder may have moved or been renamed."""
    maker = str(_described(folder)["generator"])
    if maker.rpartition("@")[2] != generator.identity.rpartition("@")[2]:
        raise ReelignError(
            f"The latent reward {folder} was trained with {maker}, and this generator is {generator.identity}: another "
            "model, or one with another VAE.",
            "Use the model it was trained with, or train one for this: reelign latent-reward train",
        )


def _described(folder: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        return described
    except (OSError, ValueError) as error:
        raise ReelignError(
            f"There is no latent reward in {folder}: it has no readable {DESCRIPTION}.",
            "Give the folder that reelign latent-reward train printed.",
        ) from error


def _head(weights: dict[str, torch.Tensor], shape: LatentRewardShape) -> QueryHead:
    asked = weights.get("head.queries")
    width = asked.shape[-1] if asked is not None else shape.heads
    return QueryHead(width, len(shape.dimensions), queries=shape.queries, heads=shape.heads)


def _load_strictly(reward: LatentReward, weights: dict[str, torch.Tensor], folder: Path) -> None:
    own: dict[str, nn.Parameter] = reward.trained_parameters()
    wrong = sorted(own.keys() ^ weights.keys()) or [
        name for name, each in own.items() if each.shape != weights[name].shape
    ]
    if wrong:
        raise ReelignError(f"The weights in {folder} do not fit: {wrong[0]}.", "Train the reward again.")
    with torch.no_grad():
        for name, each in own.items():
            each.copy_(weights[name])
