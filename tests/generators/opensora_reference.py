"""Open-Sora 1.2's published ways of sampling and of normalising, written out plainly: no diffusers pipeline has them.

From hpcaitech/Open-Sora, tag v1.2.0: scripts/inference.py, opensora/schedulers/rf and opensora/models/vae/vae.py, with
configs/opensora-v1-2/inference/sample.py. The published sampler's own result over the published denoiser is a number in
test_opensora.py; this is the same sampler over the tiny pipeline, its text and its VAE.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from reelign.generators import VideoSize

SHIFT, SCALE = torch.tensor([-0.10, 0.34, 0.27, 0.98]), torch.tensor([3.85, 2.32, 2.33, 3.06])


@torch.no_grad()
def published_sample(
    pipeline: Any,
    prompts: list[str],
    noise: Tensor,
    size: VideoSize,
    steps: int,
    scale: float,
    first: Tensor | None = None,
) -> Tensor:
    """Latents (B, C, F, H, W): over the prompts and over no text, with the prompts' mask, at each of the shifted times.

    A `first` latent frame (B, C, 1, H, W) that is given is put in at every step and told to bear no noise.

    Published code joins the two sides in one batch; here they are two, for the same rounding as ours.
    """
    transformer = pipeline.transformer
    tokens = pipeline.tokenizer(
        [f"{prompt} aesthetic score: 6.5." for prompt in prompts],
        max_length=transformer.config.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    text = pipeline.text_encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
    no_text = transformer.y_embedder.y_embedding.expand_as(text)
    frames = 1 if size.num_frames == 1 else size.num_frames // 17 * 5
    ratio = math.sqrt(size.height * size.width / 512**2) * math.sqrt(frames)
    even = [1 - step / steps for step in range(steps)]
    times = [ratio * time / (1 + (ratio - 1) * time) for time in even]
    latents, rows = noise, len(prompts)
    noisy = None if first is None else torch.arange(noise.shape[2])[None].expand(rows, -1) > 0
    for now, after in itertools.pairwise([*times, 0.0]):
        latents = latents if first is None else torch.cat([first, latents[:, :, 1:]], dim=2)
        prompted, unprompted = (
            transformer(
                latents,
                1000 * torch.full((rows,), now),
                side,
                tokens["attention_mask"],
                torch.full((rows,), 120.0 if size.num_frames == 1 else 24.0),
                size.height,
                size.width,
                noisy,
            )[0].chunk(2, dim=1)[0]
            for side in (text, no_text)
        )
        latents = latents + (now - after) * (unprompted + scale * (prompted - unprompted))
    return latents if first is None else torch.cat([first, latents[:, :, 1:]], dim=2)


@torch.no_grad()
def published_latents(pipeline: Any, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, F, H, W) in [-1, 1] -> latents, their posterior's mean where the published VAE draws from it."""
    vae = pipeline.vae
    pictures = vae.spatial_vae.module.encode(pixels.transpose(1, 2).flatten(0, 1)).latent_dist.mean * 0.18215
    features = pictures.unflatten(0, (len(pixels), -1)).transpose(1, 2)
    chunks = [features[:, :, start : start + 17] for start in range(0, features.shape[2], 17)]
    means = [vae.temporal_vae.moments(chunk).chunk(2, dim=1)[0] for chunk in chunks]
    return (torch.cat(means, dim=2) - SHIFT.view(1, 4, 1, 1, 1)) / SCALE.view(1, 4, 1, 1, 1)


@torch.no_grad()
def published_pixels(pipeline: Any, latents: Tensor) -> Tensor:
    """Latents of whole chunks -> pixels (B, 3, F, H, W), about [-1, 1]."""
    vae = pipeline.vae
    raw = latents * SCALE.view(1, 4, 1, 1, 1) + SHIFT.view(1, 4, 1, 1, 1)
    # 20 frames of 5 latent ones, of which 3 came of what filled up 17.
    chunks = [vae.temporal_vae.decode(raw[:, :, start : start + 5])[:, :, 3:] for start in range(0, raw.shape[2], 5)]
    pictures = torch.cat(chunks, dim=2).transpose(1, 2) / 0.18215
    pixels = vae.spatial_vae.module.decode(pictures.flatten(0, 1)).sample
    return pixels.unflatten(0, pictures.shape[:2]).transpose(1, 2)  # type: ignore[no-any-return]
