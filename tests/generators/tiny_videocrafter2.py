"""A tiny checkpoint in VideoCrafter2's released layout.

`data/videocrafter2.json` has the names and shapes of the published code's own U-Net and VAE at this size, and what they
put out for the weights and inputs that are drawn here; the text encoder's names are OpenCLIP's.
"""

from __future__ import annotations

import json
import string
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "videocrafter2.json").read_text())
LENGTH, WIDTH, LAYERS = 32, 64, 3
VOCABULARY = ["!", *string.ascii_lowercase, *(f"{each}</w>" for each in string.ascii_lowercase)]
WORDS = len(VOCABULARY) + 2
TEXT: dict[str, list[int]] = {
    "positional_embedding": [LENGTH, WIDTH],
    "text_projection": [WIDTH, WIDTH],
    "logit_scale": [],
    "token_embedding.weight": [WORDS, WIDTH],
    "ln_final.weight": [WIDTH],
    "ln_final.bias": [WIDTH],
}
LAYER: dict[str, list[int]] = {
    "ln_1.weight": [WIDTH],
    "ln_1.bias": [WIDTH],
    "attn.in_proj_weight": [3 * WIDTH, WIDTH],
    "attn.in_proj_bias": [3 * WIDTH],
    "attn.out_proj.weight": [WIDTH, WIDTH],
    "attn.out_proj.bias": [WIDTH],
    "ln_2.weight": [WIDTH],
    "ln_2.bias": [WIDTH],
    "mlp.c_fc.weight": [4 * WIDTH, WIDTH],
    "mlp.c_fc.bias": [4 * WIDTH],
    "mlp.c_proj.weight": [WIDTH, 4 * WIDTH],
    "mlp.c_proj.bias": [WIDTH],
}
TEXT |= {f"transformer.resblocks.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in LAYER.items()}


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights that are a function of their names: matrices of about unit gain, norms about 1, the rest small."""
    found = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        size = 0.9 / (values.numel() / shape[0]) ** 0.5 if len(shape) > 1 else 0.1
        found[name] = values * size + (1.0 if len(shape) == 1 and name.endswith("weight") else 0.0)
    return found


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def few(tensor: Tensor) -> Tensor:
    """About 48 of its values, as they are stored."""
    return tensor.flatten()[:: max(1, tensor.numel() // 48)]


def released_weights() -> dict[str, Tensor]:
    """As `state_dict` has them, tables of noise levels included."""
    return {
        "betas": torch.zeros(1000),
        "scale_arr": torch.cat([torch.linspace(1, 0.7, 400), torch.full((1000,), 0.7)]),
        **{f"model.diffusion_model.{name}": each for name, each in filled(PUBLISHED["unet_shapes"]).items()},
        **{f"first_stage_model.{name}": each for name, each in filled(PUBLISHED["vae_shapes"]).items()},
        **{f"cond_stage_model.model.{name}": each for name, each in filled(TEXT).items()},
    }


def save_checkpoint(folder: Path, weights: dict[str, Tensor] | None = None) -> Path:
    """`model.ckpt` with CLIP's kind of tokenizer beside it, of single letters."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*VOCABULARY, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH).save_pretrained(folder / "tokenizer")
    torch.save({"state_dict": released_weights() if weights is None else weights}, folder / "model.ckpt")
    return folder / "model.ckpt"


def save_videocrafter2(folder: Path) -> None:
    """The pipeline that such a checkpoint is made into."""
    from reelign.generators.videocrafter2.checkpoint import pipeline_folder

    pipeline_folder(save_checkpoint(folder.with_name("released"))).rename(folder)
