"""What diffusers itself does with a family's pipeline: the other side of every comparison."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.samplers import initial_noise
from reelign.generators import Generator, Guidance, VideoSize

PROMPTS = ["a red square moves left", "a disc"]
SEEDS = [3, 4]
STEPS = 4


def frames_first(pipeline: Any) -> bool:
    """Whether the pipeline holds latents as (B, F, C, H, W)."""
    return type(pipeline).__name__ == "CogVideoXPipeline"


def by_pipeline(pipeline: Any, generator: Generator, size: VideoSize, scale: float, output: str = "latent") -> Tensor:
    """Two videos, or their latents (B, C, F, H, W), by the pipeline's own call."""
    noise = initial_noise((len(SEEDS), *generator.latent_shape(size)), SEEDS, "cpu")
    swap = frames_first(pipeline)
    frames: Tensor = pipeline(
        prompt=PROMPTS,
        negative_prompt=[""] * len(PROMPTS),
        num_frames=size.num_frames,
        height=size.height,
        width=size.width,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=noise.transpose(1, 2) if swap else noise,
        output_type=output,
        **generator.call_arguments,
    ).frames
    return frames.transpose(1, 2) if swap and output == "latent" else frames


def by_reelign(generator: Generator, size: VideoSize, scale: float) -> Tensor:
    """The latents of the same two videos by our own loop."""
    guidance = Guidance(scale, generator.encode_prompts([""] * len(PROMPTS)))
    return generator.sample(generator.encode_prompts(PROMPTS), SEEDS, size, steps=STEPS, guidance=guidance)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Equal to fp32's rounding over a few steps, relative to the largest value: tiny random models overshoot."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 * max(1.0, float(theirs.abs().max())))
