"""A real AnimateDiff pipeline, tiny and with random weights, fields as diffusers' documentation puts one together."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AnimateDiffPipeline,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)

from generators.tiny import awake, clip_text, frame_vae, tokenizer

PLACES = 8
"""Frames that the motion module knows."""


def save_animatediff(folder: Path) -> None:
    """Stable Diffusion's layout with a motion module; a VAE of spatial stride 2, a U-Net of two levels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image_model = UNet2DConditionModel(
            block_out_channels=(8, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=2,
        )
        motion = MotionAdapter(
            block_out_channels=(8, 8),
            motion_layers_per_block=1,
            motion_norm_num_groups=2,
            motion_num_attention_heads=2,
            motion_max_seq_length=PLACES,
        )
        awake(motion)
        # So that it has something to learn: at first its output is next to nothing, and its error that of no guess.
        image_model.conv_out.weight.data.mul_(4)
        pipeline = AnimateDiffPipeline(
            tokenizer=tokenizer(),
            text_encoder=clip_text(),
            unet=awake(UNetMotionModel.from_unet2d(image_model, motion)),
            motion_adapter=motion,
            vae=frame_vae(),
            scheduler=DDIMScheduler(beta_schedule="linear", steps_offset=1, clip_sample=False),
        )
    pipeline.save_pretrained(folder)
