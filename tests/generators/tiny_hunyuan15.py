"""HunyuanVideo 1.5's real pipelines, tiny and with random weights, built without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from tokenizers.processors import TemplateProcessing
from transformers import (
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from generators.tiny import WORDS, awake
from generators.tiny_hunyuan import word_tokenizer

TEMPLATE_LENGTH = 108
"""Tokens before a prompt, of which the pipeline takes it that its tokenizer makes as many."""
LENGTH = 12
"""Tokens of a prompt and of the marks behind it."""
MARKS = ("<|im_start|>", "<|im_end|>", "<|fill|>", "\n")
CHAT = (
    "{{{{ '<|fill|>' * {fill} }}}}{{% for each in messages %}}<|im_start|>{{{{ each.role }}}}\n{{{{ each.content }}}}"
    "<|im_end|>\n{{% endfor %}}<|im_start|>assistant\n"
)
SIDE = 32
"""Height and width of the clips that the miniature says it was trained for."""


def save_hunyuan15(folder: Path, *, image: bool = False, meanflow: bool = False) -> None:
    """The 480p layout; with `image` that of image-to-video, whose scheduler has another shift.

    Both as exported (diffusers' scripts/convert_hunyuan_video1_5_to_diffusers.py). Spatial stride 8 and not 16.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts: dict[str, Any] = {
            "tokenizer": qwen_tokenizer(),
            "text_encoder": Qwen2_5_VLTextModel(qwen_config()).eval(),
            "tokenizer_2": ByT5Tokenizer(model_max_length=2 * LENGTH),
            "text_encoder_2": T5EncoderModel(
                T5Config(vocab_size=384, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0)
            ).eval(),
            "transformer": awake(
                HunyuanVideo15Transformer3DModel(
                    in_channels=9,
                    out_channels=4,
                    num_attention_heads=2,
                    attention_head_dim=16,
                    num_layers=2,
                    num_refiner_layers=1,
                    patch_size=1,
                    patch_size_t=1,
                    text_embed_dim=16,
                    text_embed_2_dim=8,
                    image_embed_dim=8,
                    rope_axes_dim=(4, 6, 6),
                    target_size=SIDE,
                    task_type="i2v" if image else "t2v",
                    use_meanflow=meanflow,
                )
            ),
            "vae": AutoencoderKLHunyuanVideo15(
                latent_channels=4,
                block_out_channels=(4, 8, 8, 8),
                layers_per_block=1,
                spatial_compression_ratio=8,
                temporal_compression_ratio=4,
            ).eval(),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
            "guider": ClassifierFreeGuidance(guidance_scale=6.0),
        }
        if image:
            vision = SiglipVisionConfig(
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=16,
                patch_size=4,
            )
            parts["image_encoder"] = SiglipVisionModel(vision).eval()
            parts["feature_extractor"] = SiglipImageProcessor(size={"height": 16, "width": 16})
    kind = HunyuanVideo15ImageToVideoPipeline if image else HunyuanVideo15Pipeline
    kind(**parts).save_pretrained(folder)


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """Padded on the right; filled up so that a prompt stands where it does for Qwen's own."""
    plain = TemplateProcessing(single="$A", special_tokens=[])
    tokenizer = word_tokenizer([*MARKS, *WORDS, "system", "user", "assistant"], MARKS, plain)
    pipeline_says = HunyuanVideo15Pipeline._get_mllm_prompt_embeds.__defaults__[-2]
    messages = [{"role": "system", "content": pipeline_says}, {"role": "user", "content": ""}]
    tokenizer.chat_template = CHAT.format(fill=0)
    closing = 5  # behind the prompt: the user's end and its newline, then three that ask for the answer
    shorter = len(tokenizer.apply_chat_template(messages, return_dict=False)) - closing
    tokenizer.chat_template = CHAT.format(fill=TEMPLATE_LENGTH - shorter)
    tokenizer.model_max_length = TEMPLATE_LENGTH + LENGTH
    return tokenizer


def qwen_config() -> Qwen2_5_VLTextConfig:
    return Qwen2_5_VLTextConfig(
        vocab_size=len(qwen_tokenizer()),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
