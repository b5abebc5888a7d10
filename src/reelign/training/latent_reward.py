"""A latent reward: a generator's first blocks and a head that reads a number per dimension off noisy latents.

Of Flow-NRG (Liu et al. 2025, arXiv:2501.13918, section 4.3): the reward sees what the sampler sees, so that its
gradient in the latents can guide it, and a reward gradient needs neither VAE nor video model (PRFL, arXiv:2511.21541).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.generators.trunk import block_count, features, make_trunk, width_of
from reelign.training.lora import LoRA


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentRewardShape:
    """What a latent reward is made of and what its numbers mean; kept beside its weights."""

    dimensions: tuple[str, ...]
    blocks: int
    """Of the denoiser, from the first on."""
    train: Literal["full", "lora", "head"]
    """`full` has a copy of these blocks, the others share the generator's."""
    lora: LoRA | None
    levels: Literal["noisy", "clean"]
    """`clean` reads whatever it is given as clean latents: the ablation."""
    queries: int
    """Of the attention, for each dimension."""
    heads: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Of each dimension's raw rewards over the videos it was trained on, nearly clean; empty before that is known."""
    largest: float | None = None
    """Root mean square of a video's latents above which it is unlike all that the reward has seen."""


class QueryHead(nn.Module):
    """Learned queries attend to the trunk's tokens, and each dimension reads its own ones.

    Args:
        width: of the tokens.
        dimensions: how many numbers come out.
        queries: for each of them.
        heads: of the attention; divides the width.
    """

    def __init__(self, width: int, dimensions: int, *, queries: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(dimensions, queries, width) / width**0.5)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.hidden = nn.Linear(queries * width, width)
        self.read = nn.Parameter(torch.zeros(dimensions, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, tokens, width) -> (B, dimensions); 0 before training, whatever the tokens are."""
        normed = self.norm(tokens)
        dimensions, queries, width = self.queries.shape

        def by_head(values: Tensor) -> Tensor:
            split: Tensor = values.unflatten(-1, (self.heads, -1))
            return split.transpose(1, 2)

        asked = by_head(self.queries.flatten(0, 1).expand(len(tokens), -1, -1))
        found = nn.functional.scaled_dot_product_attention(
            asked, by_head(self.key(normed)), by_head(self.value(normed))
        )
        own = found.transpose(1, 2).reshape(len(tokens), dimensions, queries * width)
        rewards: Tensor = (nn.functional.gelu(self.hidden(own)) * self.read).sum(dim=-1)
        return rewards


class LatentReward(nn.Module):
    """A reward on noisy latents, differentiable in them.

    Args:
        generator: whose blocks it has or shares, and whose `velocity` prepares their inputs. Not kept as a module: its
            weights are no part of the reward.
        shape: what it is made of.
        trunk: the blocks.
        head: reads them.
    """

    def __init__(self, generator: Generator, shape: LatentRewardShape, trunk: nn.Module, head: QueryHead) -> None:
        super().__init__()
        self.generator = generator
        self.settings = shape
        self.trunk = trunk
        self.head = head

    @property
    def device(self) -> torch.device:
        return self.head.read.device

    def raw(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """(B, dimensions) fp32, on the scale that the ranking loss gave it."""
        if self.settings.levels == "clean":
            sigma = self.generator.path.clean_sigmas(len(sigma)).to(sigma)
        scored: Tensor = self.head(features(self.generator, self.trunk, noisy_latents, sigma, conditioning))
        return scored

    def forward(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> dict[str, Tensor]:
        """{dimension: (B,)}, higher is better; mean 0 and deviation 1 over the videos it was trained on, nearly clean.

        Args:
            noisy_latents: (B, C, F, H, W) canonical.
            sigma: (B,) in [0, 1].
            conditioning: of the B videos, on the reward's device.
        """
        rewards = self.raw(noisy_latents, sigma, conditioning)
        if self.settings.mean:
            mean, std = (rewards.new_tensor(each) for each in (self.settings.mean, self.settings.std))
            rewards = (rewards - mean) / std
        return dict(zip(self.settings.dimensions, rewards.unbind(dim=1), strict=True))

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What training moves, by name: the head, and a copied trunk or its adapter."""
        found = {f"head.{name}": each for name, each in self.head.named_parameters()}
        for name, each in self.trunk.named_parameters():
            if self.settings.train == "full" or "lora_" in name:
                found[f"trunk.{name}"] = each
        return found


def new_latent_reward(
    generator: Generator, shape: LatentRewardShape, conditioning: Conditioning, latents: tuple[int, ...], *, seed: int
) -> LatentReward:
    """A reward that has learnt nothing yet, over the generator's own first blocks, on its device; gradients are off.

    Args:
        generator: the base.
        shape: with its number of blocks filled in.
        conditioning: one row or more, for the width of the features.
        latents: (C, F, H, W), likewise.
        seed: of head and adapter.
    """
    trunk: Any = make_trunk(generator, shape.blocks, weights="copied" if shape.train == "full" else "shared")
    width = width_of(generator, trunk, latents, conditioning.take(torch.tensor([0])))
    if width % shape.heads:
        raise ReelignError(
            f"The blocks of {generator.model} are {width} wide, which {shape.heads} heads do not divide.",
            "Set heads to a divisor of it.",
        )
    # New weights are drawn from the global generator; give it ours and hand the old state back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = QueryHead(width, len(shape.dimensions), queries=shape.queries, heads=shape.heads)
        if shape.train == "lora":
            add_adapter(trunk, shape.lora or LoRA(), generator.lora_targets)
    return LatentReward(generator, shape, trunk, head.to(generator.device)).requires_grad_(False)


def blocks_or_quarter(generator: Generator, blocks: int) -> int:
    """The number of blocks asked for; 0 is a quarter of the denoiser's, at least one."""
    return blocks or max(1, block_count(generator) // 4)


def add_adapter(trunk: nn.Module, lora: LoRA, targets: tuple[str, ...]) -> None:
    """Put an adapter on the trunk's layers; `targets` are the family's own, where the adapter names none."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets or targets),
        init_lora_weights=True,
        use_dora=lora.dora,
    )
    inject_adapter_in_model(config, trunk)
