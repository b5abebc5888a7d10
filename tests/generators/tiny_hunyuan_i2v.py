"""HunyuanVideo's real image-to-video pipelines, tiny and with random weights, built without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from generators.tiny import awake
from generators.tiny_hunyuan import clip, clip_tokenizer, hunyuan_vae, llama_config, llama_tokenizer

Kind = Literal["token_replace", "latent_concat"]
LENGTH = 12
"""Tokens of a prompt with the mark of its turn's end and the header of the answer."""
PIXELS = 48
"""Of LLaVA's image along a side: 24 x 24 patches, as many as for the real one."""


def save_hunyuan_i2v(folder: Path, *, kind: Kind) -> None:
    """The layout of `hunyuanvideo-community/HunyuanVideo-I2V` (token_replace, distilled) or of its `-33ch`
    (latent_concat, not distilled), as the two are told apart in diffusers' docs and transformer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = image_tokenizer()
        beside = kind == "latent_concat"
        pipeline = HunyuanVideoImageToVideoPipeline(
            tokenizer=tokenizer,
            text_encoder=llava(tokenizer),
            tokenizer_2=clip_tokenizer(),
            text_encoder_2=clip(),
            transformer=awake(
                HunyuanVideoTransformer3DModel(
                    in_channels=9 if beside else 4,
                    out_channels=4,
                    num_attention_heads=2,
                    attention_head_dim=16,
                    num_layers=1,
                    num_single_layers=2,
                    num_refiner_layers=1,
                    patch_size=2,
                    patch_size_t=1,
                    guidance_embeds=not beside,
                    text_embed_dim=16,
                    pooled_projection_dim=8,
                    rope_axes_dim=(4, 6, 6),
                    image_condition_type=kind,
                )
            ),
            vae=hunyuan_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            image_processor=CLIPImageProcessor(
                size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}
            ),
        )
    pipeline.save_pretrained(folder)


def llava(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    eyes = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=PIXELS,
        patch_size=PIXELS // 24,
        projection_dim=8,
    )
    words = llama_config()
    words.vocab_size = len(tokenizer)
    config = LlavaConfig(
        vision_config=eyes,
        text_config=words,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return LlavaForConditionalGeneration(config).eval()


def image_tokenizer() -> PreTrainedTokenizerFast:
    """In which the image's mark is token 5 of the template, and a prompt begins at 103, as in Llama-3's own."""
    tokenizer = llama_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"])
    tokenizer.model_max_length = DEFAULT_PROMPT_TEMPLATE["crop_start"] + LENGTH
    return tokenizer
