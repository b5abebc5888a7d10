"""V-JEPA 2, tiny and with random weights, in transformers' own layout, as the hub holds it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import VJEPA2Config, VJEPA2Model


def save_vjepa2(folder: Path) -> Path:
    """As facebook/vjepa2-vitl-fpc64-256, with a crop of 3 x 3 patches."""
    config = VJEPA2Config(
        crop_size=48,
        patch_size=16,
        frames_per_clip=4,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        pred_hidden_size=24,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=2,
        pred_mlp_ratio=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VJEPA2Model(config)
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder
