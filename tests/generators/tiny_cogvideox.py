"""CogVideoX 1.5 and CogVideoX image-to-video, tiny and with random weights.

Fields as diffusers' scripts/convert_cogvideox_to_diffusers.py writes the checkpoints'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

from generators.tiny import LENGTH, TABLE, awake, t5_text, tokenizer

CHANNELS = 4
FIFTEEN = {"patch_size_t": 2, "patch_bias": False}


def save_cogvideox15(folder: Path) -> None:
    """1.5's layout: two latent frames a token, projections of patches without a bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CogVideoXPipeline(**parts(CHANNELS, fifteen=True, **FIFTEEN)).save_pretrained(folder)


def save_cogvideox_i2v(folder: Path, *, fifteen: bool) -> None:
    """5B I2V's layout with learned places, or 1.5's with an embedded offset; twice the channels in."""
    own = {**FIFTEEN, "ofs_embed_dim": 8} if fifteen else {"use_learned_positional_embeddings": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CogVideoXImageToVideoPipeline(**parts(2 * CHANNELS, fifteen=fifteen, **own)).save_pretrained(folder)


def parts(in_channels: int, *, fifteen: bool, **own: Any) -> dict[str, Any]:
    """What all of them have."""
    vae: Any = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.7,
        invert_scale_latents=fifteen,
    ).eval()
    # The encoder says mean and log-variance: none of the latter, since the pipeline draws the latents of an image.
    out = vae.encoder.conv_out.conv
    out.weight.data[CHANNELS:] = 0
    out.bias.data[CHANNELS:] = -100
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=in_channels,
        out_channels=CHANNELS,
        time_embed_dim=8,
        text_embed_dim=32,
        num_layers=2,
        sample_width=4 if fifteen else 2,
        sample_height=4 if fifteen else 2,
        sample_frames=9,
        patch_size=2,
        max_text_seq_length=LENGTH,
        use_rotary_positional_embeddings=True,
        **own,
    )
    scheduler = CogVideoXDDIMScheduler(
        **TABLE,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        snr_shift_scale=1.0,
    )
    return {
        "tokenizer": tokenizer(),
        "text_encoder": t5_text(),
        "vae": vae,
        "transformer": awake(transformer),
        "scheduler": scheduler,
    }
