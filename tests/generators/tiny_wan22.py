"""Wan 2.2's pipelines, tiny and with random weights: fields as in Wan-AI's published configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)

from generators.tiny import awake, tokenizer
from generators.tiny_wan import umt5_text, wan_transformer, wan_vae


def save_wan22(folder: Path, **settings: Any) -> None:
    """A14B's layout: two transformers of other weights, and a boundary that short schedules cross."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = wan_vae()
        pipeline = WanPipeline(
            **parts(vae, channels=16),
            transformer_2=transformer(channels=16),
            **{"boundary_ratio": 0.875, **settings},
        )
    pipeline.save_pretrained(folder)


def save_wan22_ti2v(folder: Path) -> None:
    """TI2V-5B's layout: a residual VAE of stride 16 that takes pixels in patches of 2, a timestep for each token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae: Any = AutoencoderKLWan(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=8,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
            latents_mean=[0.1] * 8,
            latents_std=[0.8] * 8,
        )
        # Shortcuts add up; outside [-1, 1] diffusers' own decode would clamp.
        vae.decoder.conv_out.weight.data.mul_(0.1)
        pipeline = WanPipeline(**parts(vae.eval(), channels=8), expand_timesteps=True)
    pipeline.save_pretrained(folder)


def save_wan22_i2v(folder: Path) -> None:
    """I2V A14B's layout: 36 channels in and 16 out, no image encoder, a boundary of 0.9."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = wan_vae()
        pipeline = WanImageToVideoPipeline(
            **parts(vae, channels=36, out_channels=16),
            transformer_2=transformer(channels=36, out_channels=16),
            boundary_ratio=0.9,
        )
    pipeline.save_pretrained(folder)


def parts(vae: Any, *, channels: int, out_channels: int | None = None) -> dict[str, Any]:
    """What both pipelines have."""
    return {
        "tokenizer": tokenizer(),
        "text_encoder": umt5_text(),
        "vae": vae,
        "transformer": transformer(channels=channels, out_channels=out_channels),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
    }


def transformer(*, channels: int, out_channels: int | None = None) -> Any:
    return awake(wan_transformer(num_attention_heads=3, in_channels=channels, out_channels=out_channels or channels))
