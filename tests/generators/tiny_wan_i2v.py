"""Wan 2.1 I2V, tiny and with random weights, built without a network.

Fields as diffusers' scripts/convert_wan_to_diffusers.py writes the checkpoints': in_channels 36, added_kv_proj_dim and
image_dim beside those of the text model, CLIPVisionModel with a CLIPImageProcessor. The scheduler is Euler's in place
of UniPC's, which takes steps of second order and so ends elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from generators.tiny import awake, tokenizer
from generators.tiny_wan import CHANNELS, umt5_text, wan_transformer, wan_vae

MASK_CHANNELS, SIDE = 4, 8


def save_wan_i2v(folder: Path) -> None:
    """Clips of 9 frames at 16 x 16; an image encoder that sees 8 x 8 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = WanImageToVideoPipeline(
            tokenizer=tokenizer(),
            text_encoder=umt5_text(),
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
                wan_transformer(in_channels=2 * CHANNELS + MASK_CHANNELS, image_dim=8, added_kv_proj_dim=24)
            ),
            vae=wan_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
