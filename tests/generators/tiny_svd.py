"""Stable Video Diffusion, tiny and with random weights, built without a network.

The scheduler's fields are the published scheduler_config.json's (stabilityai/stable-video-diffusion-img2vid); norms ask
for 32 channels, and the pipeline hands its image encoder 224 x 224 pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from generators.tiny import awake

WIDTH, TOLD_WIDTH = 32, 8


def save_svd(folder: Path) -> None:
    """A VAE of spatial stride 2, a U-Net of two levels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableVideoDiffusionPipeline(
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=8,
                    intermediate_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    image_size=224,
                    patch_size=112,
                    projection_dim=WIDTH,
                )
            ).eval(),
            feature_extractor=CLIPImageProcessor(),
            unet=awake(
                UNetSpatioTemporalConditionModel(
                    block_out_channels=(32, 32),
                    down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
                    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
                    layers_per_block=1,
                    cross_attention_dim=WIDTH,
                    num_attention_heads=(2, 2),
                    addition_time_embed_dim=TOLD_WIDTH,
                    projection_class_embeddings_input_dim=3 * TOLD_WIDTH,
                )
            ),
            vae=AutoencoderKLTemporalDecoder(
                block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
            ).eval(),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                interpolation_type="linear",
                prediction_type="v_prediction",
                sigma_max=700.0,
                sigma_min=0.002,
                steps_offset=1,
                timestep_spacing="leading",
                timestep_type="continuous",
                use_karras_sigmas=True,
            ),
        )
    pipeline.save_pretrained(folder)
