"""The first blocks of a denoiser as a reader of noisy latents: what a latent reward stands on.

A trunk is the denoiser's own class without what stands behind its first blocks, put in the denoiser's place while the
family's `velocity` prepares its inputs (timestep, scaling, positions, text); it ends with the last kept block's output.
Its weights are the generator's own, or a copy of these blocks alone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.generators.checkpointing import run_again


@dataclass(frozen=True, slots=True)
class TrunkParts:
    """Where a denoiser can be cut."""

    blocks: str
    """Its list of blocks."""
    end: str
    """The module that is handed the last block's output."""
    behind: tuple[str, ...]
    """Modules that a trunk never reaches."""
    beside: tuple[str, ...] = ()
    """Further lists of as many blocks, each of which follows its own in `blocks`."""


UNET = TrunkParts("down_blocks", "mid_block", ("up_blocks", "conv_norm_out", "conv_act", "conv_out"))

TRUNKS: dict[str, TrunkParts] = {
    "CogVideoXTransformer3DModel": TrunkParts("transformer_blocks", "norm_final", ("norm_out", "proj_out")),
    "HunyuanVideo15Transformer3DModel": TrunkParts("transformer_blocks", "norm_out", ("proj_out",)),
    "HunyuanVideoTransformer3DModel": TrunkParts(
        "transformer_blocks", "norm_out", ("single_transformer_blocks", "proj_out")
    ),
    "STDiT3": TrunkParts("spatial_blocks", "final_layer", (), beside=("temporal_blocks",)),
    "LTXVideoTransformer3DModel": TrunkParts("transformer_blocks", "norm_out", ("proj_out",)),
    "MochiTransformer3DModel": TrunkParts("transformer_blocks", "norm_out", ("proj_out",)),
    "UNet3DConditionModel": UNET,
    "UNetMotionModel": UNET,
    "UNetSpatioTemporalConditionModel": UNET,
    "WanTransformer3DModel": TrunkParts("blocks", "norm_out", ("proj_out",)),
}
"""By the denoiser's class name."""


class _Reached(Exception):
    """The trunk has come to its end."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


class _End(nn.Module):
    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        raise _Reached(inputs[0] if inputs else named["hidden_states"])


def parts_of(generator: Generator) -> tuple[str, Any, TrunkParts]:
    """The component's name, the denoiser and where it can be cut.

    Raises:
        ReelignError: several denoisers, or one of a class that is not known here.
    """
    if len(generator.denoisers) != 1:
        raise ReelignError(
            f"{generator.model} has several denoisers, and a latent reward stands on one.",
            "Take a model with one denoiser.",
        )
    ((component, denoiser),) = generator.denoisers.items()
    kind = next((each.__name__ for each in type(denoiser).__mro__ if each.__name__ in TRUNKS), None)
    if kind is None:
        raise ReelignError(
            f"A {type(denoiser).__name__} has no known first blocks.", f"Known are {', '.join(sorted(TRUNKS))}."
        )
    return component, denoiser, TRUNKS[kind]


def block_count(generator: Generator) -> int:
    """How many blocks a trunk could keep."""
    _, denoiser, parts = parts_of(generator)
    return len(getattr(denoiser, parts.blocks))


def make_trunk(generator: Generator, blocks: int, *, weights: Literal["shared", "copied"]) -> nn.Module:
    """The first `blocks` blocks with the embeddings before them; adapters on them are left out.

    Args:
        generator: the base, aligned or not.
        blocks: how many, from 1 on.
        weights: `shared` holds the generator's own tensors, `copied` new ones: of these blocks and no more.
    Raises:
        ReelignError: the denoiser has fewer blocks.
    """
    _, denoiser, parts = parts_of(generator)
    there = len(getattr(denoiser, parts.blocks))
    if not 1 <= blocks <= there:
        raise ReelignError(
            f"{generator.model} has {there} blocks, and the first {blocks} were asked for.",
            f"Set blocks from 1 to {there}, or 0 for a quarter of them.",
        )
    view: Any = copy.copy(denoiser)
    # Methods bound to the denoiser would bring all of it into a copy.
    view.__dict__ = {name: each for name, each in vars(denoiser).items() if not inspect.ismethod(each)}
    kept = {name: each for name, each in denoiser._modules.items() if name not in parts.behind}
    # A list that the forward walks on its way to the end is there, and empty.
    kept |= {name: nn.ModuleList() for name in parts.behind if isinstance(denoiser._modules[name], nn.ModuleList)}
    for name in (parts.blocks, *parts.beside):
        kept[name] = nn.ModuleList(list(getattr(denoiser, name))[:blocks])
    kept[parts.end] = _End()
    view.__dict__["_modules"] = kept
    memo: dict[int, Any] = {}
    if weights == "shared":
        # The same storage under parameters of the trunk's own: no gradient goes through them into a policy.
        memo |= {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in view.parameters()}
        memo |= {id(each): each for each in view.buffers()}
    trunk: nn.Module = copy.deepcopy(view, memo)
    _without_adapters(trunk)
    return trunk.requires_grad_(False).eval()


def features(
    generator: Generator, trunk: nn.Module, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning
) -> Tensor:
    """What the trunk's last block says of noisy latents (B, C, F, H, W) at sigma (B,): (B, tokens, width), fp32.

    Differentiable in the latents and in the trunk's weights.
    """
    with _in_place(generator, trunk):
        try:
            generator.velocity(noisy_latents, sigma, conditioning)
        except _Reached as reached:
            found = reached.features
        else:
            raise AssertionError("the denoiser did not come to the trunk's end")
    if found.ndim == 4:  # of a U-Net, (B · frames, width, height, width)
        found = found.unflatten(0, (len(noisy_latents), -1)).permute(0, 1, 3, 4, 2).flatten(1, 3)
    return found.float()


def checkpoint_blocks(trunk: nn.Module) -> None:
    """Run the trunk's blocks again in the backward pass instead of keeping what they computed."""
    for module in trunk.modules():
        for blocks in {name for parts in TRUNKS.values() for name in (parts.blocks, *parts.beside)}:
            for block in getattr(module, blocks, None) or ():
                block.forward = functools.partial(run_again, block.forward)


def weights_mark(trunk: nn.Module) -> str:
    """12 hex digits that change in practice when any tensor of the trunk does, read from each one's first values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.named_parameters()):
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        digest.update(plain.encode() + tensor.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _in_place(generator: Generator, trunk: nn.Module) -> Iterator[None]:
    """The trunk where the pipeline has its denoiser."""
    component, denoiser, _ = parts_of(generator)
    # Past DiffusionPipeline's own __setattr__, which would write the trunk into the pipeline's config.
    held = vars(generator.pipeline)
    held[component] = trunk
    try:
        yield
    finally:
        held[component] = denoiser


def _without_adapters(trunk: nn.Module) -> None:
    for name, layer in list(trunk.named_modules()):
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer"):
            parent, _, own = name.rpartition(".")
            setattr(trunk.get_submodule(parent), own, layer.base_layer)


def width_of(generator: Generator, trunk: nn.Module, shape: tuple[int, ...], conditioning: Conditioning) -> int:
    """The width of the trunk's features for latents (C, F, H, W) and one row of conditioning."""
    device = generator.device
    with torch.no_grad():
        latents, sigma = torch.zeros((1, *shape), device=device), torch.full((1,), 0.5, device=device)
        level = generator.path.training_sigmas(sigma)
        return features(generator, trunk, latents, level, conditioning.to(device)).shape[-1]
