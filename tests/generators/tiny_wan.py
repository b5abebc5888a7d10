"""Wan 2.1's real text-to-video pipeline, tiny and with random weights, and the parts that Wan's others have too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from generators.tiny import WORDS, tokenizer

CHANNELS = 16


def save_wan(folder: Path) -> None:
    """A VAE of spatial stride 8 and temporal stride 4, a transformer of two blocks; Euler's scheduler, not UniPC's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = WanPipeline(
            tokenizer=tokenizer(),
            text_encoder=umt5_text(),
            transformer=wan_transformer(freq_dim=256),
            vae=wan_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)


def umt5_text() -> UMT5EncoderModel:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS) + 3, dropout_rate=0.0, **sizes)).eval()


def wan_transformer(**further: Any) -> Any:
    """Two blocks, 24 wide, unless it is said otherwise."""
    usual = {"num_attention_heads": 2, "in_channels": CHANNELS, "out_channels": CHANNELS, "freq_dim": 32}
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        attention_head_dim=12,
        text_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **{**usual, **further},
    ).eval()


def wan_vae() -> AutoencoderKLWan:
    """Norms over three channels, the least there can be, would leap where a value that is almost 0 changes its sign."""
    return AutoencoderKLWan(
        base_dim=8, z_dim=CHANNELS, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()
