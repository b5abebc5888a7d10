"""Open-Sora 1.2 at a tiny size in the layout of its published weights, and as our own folder made of them.

Key names and shapes are written down from the published source (hpcaitech/Open-Sora, tag v1.2.0, in opensora/models:
stdit/stdit3.py, layers/blocks.py, vae/vae.py, vae/vae_temporal.py), not from our classes. The published classes, built
at this size, took these weights strictly, and what they made of them stands in test_opensora.py.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from generators.tiny import LENGTH, WORDS, tokenizer
from reelign.generators.opensora.convert import convert

WIDTH, DEPTH, HEADS, TEXT = 32, 2, 4, 32
PIPELINE_DEPTH = 1
"""Pairs of blocks in the folder that is trained in tests, fewer than where numbers are compared: half the time."""
STDIT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "depth": DEPTH,
    "num_heads": HEADS,
    "caption_channels": TEXT,
    "model_max_length": LENGTH,
}
SPATIAL: dict[str, Any] = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 2}
TEMPORAL: dict[str, Any] = {
    "filters": 4,
    "channel_multipliers": (1, 2, 2),
    "num_res_blocks": 1,
    "temporal_downsample": (True, True),
    "num_groups": 2,
}
SHIFT, SCALE = (-0.10, 0.34, 0.27, 0.98), (3.85, 2.32, 2.33, 3.06)

Shapes = dict[str, tuple[int, ...]]


def save_opensora(folder: Path) -> None:
    """Our own folder, made by the command that users make it with; spatial stride 2, clips of 17 frames."""
    public = folder.parent / f"{folder.name}-public"
    save_public(public)
    convert(public / "stdit", public / "vae", public / "t5", folder, vae_sizes={**SPATIAL, **TEMPORAL})


def save_public(folder: Path) -> None:
    """Three folders as the published ones: the denoiser's, the VAE's and a T5's."""
    # Of the denoiser's released config.json all fields that bear on its shape, and some that do not.
    told = {**STDIT, "depth": PIPELINE_DEPTH, "model_type": "STDiT3", "patch_size": [1, 2, 2], "drop_path": 0.0}
    chunks = {"model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17, "scale": SCALE}
    for part, weights, config in (
        ("stdit", stdit_weights(PIPELINE_DEPTH), told),
        ("vae", vae_weights(), chunks),
    ):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
        save_file(weights, folder / part / "model.safetensors", metadata={"format": "pt"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = T5Config(vocab_size=len(WORDS) + 3, d_model=TEXT, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        T5EncoderModel(sizes).save_pretrained(folder / "t5")
    tokenizer().save_pretrained(folder / "t5")


def stdit_weights(depth: int = DEPTH) -> dict[str, Tensor]:
    shapes: Shapes = {
        "x_embedder.proj.weight": (WIDTH, 4, 1, 2, 2),
        "x_embedder.proj.bias": (WIDTH,),
        "y_embedder.y_embedding": (LENGTH, TEXT),
        "final_layer.scale_shift_table": (2, WIDTH),
        **linear("t_embedder.mlp.0", WIDTH, 256),
        **linear("t_embedder.mlp.2", WIDTH, WIDTH),
        **linear("fps_embedder.mlp.0", WIDTH, 256),
        **linear("fps_embedder.mlp.2", WIDTH, WIDTH),
        **linear("t_block.1", 6 * WIDTH, WIDTH),
        **linear("y_embedder.y_proj.fc1", WIDTH, TEXT),
        **linear("y_embedder.y_proj.fc2", WIDTH, WIDTH),
        **linear("final_layer.linear", 4 * 8, WIDTH),
    }
    for block in (f"{kind}_blocks.{index}" for kind in ("spatial", "temporal") for index in range(depth)):
        shapes |= {
            f"{block}.scale_shift_table": (6, WIDTH),
            f"{block}.attn.q_norm.weight": (WIDTH // HEADS,),
            f"{block}.attn.k_norm.weight": (WIDTH // HEADS,),
            **linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH),
            **linear(f"{block}.attn.proj", WIDTH, WIDTH),
            **linear(f"{block}.cross_attn.q_linear", WIDTH, WIDTH),
            **linear(f"{block}.cross_attn.kv_linear", 2 * WIDTH, WIDTH),
            **linear(f"{block}.cross_attn.proj", WIDTH, WIDTH),
            **linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH),
            **linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH),
        }
    weights = {name: random(name, shape) for name, shape in shapes.items()}
    # rotary-embedding-torch 0.5.3: 1 / 10000^(2 i / head width).
    weights["rope.freqs"] = 10_000 ** (-torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
    return weights


def vae_weights() -> dict[str, Tensor]:
    spatial = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **SPATIAL
    )
    shapes = {f"spatial_vae.module.{name}": tuple(each.shape) for name, each in spatial.state_dict().items()}
    shapes |= {f"temporal_vae.{name}": shape for name, shape in temporal_shapes().items()}
    weights = {name: random(name, shape) for name, shape in shapes.items()}
    weights["shift"] = torch.tensor(SHIFT).view(1, 4, 1, 1, 1)
    weights["scale"] = torch.tensor(SCALE).view(1, 4, 1, 1, 1)
    return weights


def temporal_shapes() -> Shapes:
    """The temporal VAE of widths 4, 8, 8; convolutions 1 to 0 and 2 to 1 of the decoder double the frames."""
    return {
        **conv("encoder.conv_in", 4, 4, 3, bias=False),
        **res_block("encoder.block_res_blocks.0.0", 4, 4),
        **conv("encoder.conv_blocks.0", 4, 4, 3),
        **res_block("encoder.block_res_blocks.1.0", 4, 8),
        **conv("encoder.conv_blocks.1", 8, 8, 3),
        **res_block("encoder.block_res_blocks.2.0", 8, 8),
        **res_block("encoder.res_blocks.0", 8, 8),
        **norm("encoder.norm1", 8),
        **conv("encoder.conv2", 8, 8, 1),
        **conv("quant_conv", 8, 8, 1),
        **conv("post_quant_conv", 4, 4, 1),
        **conv("decoder.conv1", 8, 4, 3),
        **res_block("decoder.res_blocks.0", 8, 8),
        **res_block("decoder.block_res_blocks.2.0", 8, 8),
        **conv("decoder.conv_blocks.1", 16, 8, 3),
        **res_block("decoder.block_res_blocks.1.0", 8, 8),
        **conv("decoder.conv_blocks.0", 16, 8, 3),
        **res_block("decoder.block_res_blocks.0.0", 8, 4),
        **norm("decoder.norm1", 4),
        **conv("decoder.conv_out", 4, 4, 3),
    }


def linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name: str, out: int, width: int, kernel: int, *, bias: bool = True) -> Shapes:
    weight: Shapes = {f"{name}.conv.weight": (out, width, kernel, kernel, kernel)}
    return weight | ({f"{name}.conv.bias": (out,)} if bias else {})


def res_block(name: str, width: int, out: int) -> Shapes:
    return {
        **norm(f"{name}.norm1", width),
        **conv(f"{name}.conv1", out, width, 3, bias=False),
        **norm(f"{name}.norm2", out),
        **conv(f"{name}.conv2", out, out, 3, bias=False),
        **(conv(f"{name}.conv3", out, width, 1, bias=False) if width != out else {}),
    }


def random(name: str, shape: tuple[int, ...]) -> Tensor:
    """Each weight of a seed of its own: nothing is zero, as the published initialisation of some layers is."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    return 1 + 0.1 * values if name.endswith("weight") and len(shape) == 1 else 0.15 * values
