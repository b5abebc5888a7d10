"""LTX-Video's layouts, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

from generators.tiny import awake, t5_text, tokenizer

CHANNELS = 8
SHARED: dict[str, Any] = {
    "latent_channels": CHANNELS,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, True, False),
    "patch_size": 4,
    "patch_size_t": 1,
    "encoder_causal": True,
    "decoder_causal": False,
}
LATER: dict[str, Any] = {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (False, False, False, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
VAES: dict[str, dict[str, Any]] = {
    "0.9.0": {
        "decoder_block_out_channels": (8, 8, 8, 8),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
        "decoder_spatio_temporal_scaling": (True, True, True, False),
        "timestep_conditioning": False,
    },
    "0.9.1": {**LATER, "decoder_inject_noise": (True, True, True, False)},
    "0.9.7": {
        **LATER,
        "block_out_channels": (8, 8, 16, 16, 16),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "spatio_temporal_scaling": (True, True, True, True),
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
}
SHIFTED: dict[str, Any] = {
    "use_dynamic_shifting": True,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "shift_terminal": 0.1,
}
PIPELINES = {"text": LTXPipeline, "image": LTXImageToVideoPipeline, "condition": LTXConditionPipeline}
"""As diffusers' scripts/convert_ltx_to_diffusers.py exports the checkpoints, but for channels and layers; strides of 32
and 8, so clips of 9 frames at 64 x 32 have latents of 2 x 2 x 1."""


def save_ltx(folder: Path, *, version: str = "0.9.0", task: str = "text") -> None:
    kind, shift = PIPELINES[task], {} if version == "0.9.7" else SHIFTED
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = kind(
            tokenizer=tokenizer(),
            text_encoder=t5_text(),
            transformer=awake(
                LTXVideoTransformer3DModel(
                    in_channels=CHANNELS,
                    out_channels=CHANNELS,
                    num_attention_heads=2,
                    attention_head_dim=16,
                    cross_attention_dim=32,
                    num_layers=2,
                    caption_channels=32,
                )
            ),
            vae=_vae(version),
            scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        )
    pipeline.save_pretrained(folder)


def _vae(version: str) -> AutoencoderKLLTXVideo:
    vae: Any = AutoencoderKLLTXVideo(**{**SHARED, **VAES[version]})
    vae.latents_mean.normal_(std=0.2)
    vae.latents_std.uniform_(0.5, 1.5)
    awake(vae)
    # The encoder says mean and log-variance: next to none of the latter, since the pipelines draw an image's latents.
    last = vae.encoder.conv_out.conv
    last.weight.data[-1], last.bias.data[-1] = 0, -30.0
    return vae
