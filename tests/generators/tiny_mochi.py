"""Mochi's layout, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

from generators.tiny import LENGTH, awake, t5_text, tokenizer


def save_mochi(folder: Path) -> None:
    """Strides 8 and 6, twelve latent channels; the VAE's norms ask for 32 channels.

    The scheduler as diffusers' scripts/convert_mochi_to_diffusers.py exports it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = MochiPipeline(
            tokenizer=tokenizer(),
            text_encoder=t5_text(),
            transformer=awake(
                MochiTransformer3DModel(
                    num_attention_heads=2,
                    attention_head_dim=8,
                    num_layers=2,
                    pooled_projection_dim=16,
                    in_channels=12,
                    text_embed_dim=32,
                    time_embed_dim=8,
                    max_sequence_length=LENGTH,
                )
            ),
            vae=AutoencoderKLMochi(
                encoder_block_out_channels=(32,) * 4,
                decoder_block_out_channels=(32,) * 4,
                layers_per_block=(1,) * 5,
                latent_channels=12,
                out_channels=3,
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            force_zeros_for_empty_prompt=True,
        )
    pipeline.save_pretrained(folder)
