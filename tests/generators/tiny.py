"""Real pipelines of every family beside Wan, tiny and with random weights, built without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

WORDS = ("a", "red", "blue", "square", "disc", "moves", "left", "right")
LENGTH = 8
TABLE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""The noise table that Stable Diffusion, CogVideoX and ModelScope share."""


def save_cogvideox(folder: Path, *, rotary: bool) -> None:
    """CogVideoX 2B's layout, or with `rotary` 5B's; spatial stride 8, temporal stride 4, clips of 9 frames at 16 x 16.

    Schedulers as the checkpoints are exported (diffusers' scripts/convert_cogvideox_to_diffusers.py).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = CogVideoXPipeline(
            tokenizer=tokenizer(),
            text_encoder=t5_text(),
            transformer=awake(
                CogVideoXTransformer3DModel(
                    num_attention_heads=2,
                    attention_head_dim=16,
                    in_channels=4,
                    out_channels=4,
                    time_embed_dim=8,
                    text_embed_dim=32,
                    num_layers=2,
                    sample_width=2,
                    sample_height=2,
                    sample_frames=9,
                    patch_size=2,
                    max_text_seq_length=LENGTH,
                    use_rotary_positional_embeddings=rotary,
                )
            ),
            vae=AutoencoderKLCogVideoX(
                down_block_types=("CogVideoXDownBlock3D",) * 4,
                up_block_types=("CogVideoXUpBlock3D",) * 4,
                block_out_channels=(8,) * 4,
                latent_channels=4,
                layers_per_block=1,
                norm_num_groups=2,
                scaling_factor=0.7 if rotary else 1.15258426,
            ).eval(),
            scheduler=CogVideoXDDIMScheduler(
                **TABLE,
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                set_alpha_to_one=True,
                timestep_spacing="trailing",
                snr_shift_scale=1.0 if rotary else 3.0,
            ),
        )
    pipeline.save_pretrained(folder)


def save_modelscope(folder: Path) -> None:
    """ModelScope's layout: a VAE of spatial stride 2, a U-Net of two levels; Stable Diffusion's scheduler settings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = TextToVideoSDPipeline(
            tokenizer=tokenizer(),
            text_encoder=clip_text(),
            unet=awake(
                UNet3DConditionModel(
                    block_out_channels=(8, 8),
                    down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                    up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                    layers_per_block=1,
                    cross_attention_dim=8,
                    attention_head_dim=4,
                    norm_num_groups=2,
                )
            ),
            vae=frame_vae(),
            scheduler=DDIMScheduler(
                **TABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
            ),
        )
    pipeline.save_pretrained(folder)


def awake(denoiser: nn.Module) -> nn.Module:
    """Every weight random: layers that start at zero would hide what stands before them."""
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return denoiser.eval()


def t5_text() -> T5EncoderModel:
    """32 wide, as the denoisers' texts are."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=len(WORDS) + 3, **sizes)).eval()


def clip_text() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(WORDS) + 3,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    ).eval()


def frame_vae() -> Any:
    """Stable Diffusion's VAE of single frames, of spatial stride 2."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    ).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=LENGTH, **special)
