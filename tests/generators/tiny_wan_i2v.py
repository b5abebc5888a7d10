"""Wan 2.1 I2V, tiny and with random weights, built without a network.

Fields as diffusers' scripts/convert_wan_to_diffusers.py writes the checkpoints': in_channels 36, added_kv_proj_dim and
image_dim beside those of the text model, CLIPVisionModel with a CLIPImageProcessor. The scheduler is Euler's in place
of UniPC's, which takes steps of second order and so ends elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from generators.tiny import WORDS, awake, tokenizer

LATENT_CHANNELS, MASK_CHANNELS, SIDE = 16, 4, 8


def save_wan_i2v(folder: Path) -> None:
    """Clips of 9 frames at 16 x 16; an image encoder that sees 8 x 8 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = WanImageToVideoPipeline(
            tokenizer=tokenizer(),
            text_encoder=UMT5EncoderModel(
                UMT5Config(
                    vocab_size=len(WORDS) + 3, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
                )
            ).eval(),
            image_encoder=CLIPVisionModel(
                CLIPVisionConfig(
                    hidden_size=8,
                    intermediate_size=16,
                    num_hidden_layers=3,
                    num_attention_heads=2,
                    image_size=SIDE,
                    patch_size=4,
                )
            ).eval(),
            image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
            transformer=awake(
                WanTransformer3DModel(
                    patch_size=(1, 2, 2),
                    num_attention_heads=2,
                    attention_head_dim=12,
                    in_channels=2 * LATENT_CHANNELS + MASK_CHANNELS,
                    out_channels=LATENT_CHANNELS,
                    text_dim=32,
                    image_dim=8,
                    added_kv_proj_dim=24,
                    freq_dim=32,
                    ffn_dim=32,
                    num_layers=2,
                    cross_attn_norm=True,
                    qk_norm="rms_norm_across_heads",
                    rope_max_seq_len=32,
                )
            ),
            vae=AutoencoderKLWan(
                base_dim=3,
                z_dim=LATENT_CHANNELS,
                dim_mult=[1] * 4,
                num_res_blocks=1,
                temperal_downsample=[False, True, True],
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
