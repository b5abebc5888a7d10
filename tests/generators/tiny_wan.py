"""Wan 2.1's real text-to-video pipeline, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from generators.tiny import WORDS, tokenizer


def save_wan(folder: Path) -> None:
    """A VAE of spatial stride 8 and temporal stride 4, a transformer of two blocks; Euler's scheduler, not UniPC's."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = WanPipeline(
            tokenizer=tokenizer(),
            text_encoder=UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS) + 3, dropout_rate=0.0, **sizes)).eval(),
            transformer=WanTransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=16,
                out_channels=16,
                text_dim=32,
                freq_dim=256,
                ffn_dim=32,
                num_layers=2,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                rope_max_seq_len=32,
            ).eval(),
            vae=AutoencoderKLWan(
                base_dim=3, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
