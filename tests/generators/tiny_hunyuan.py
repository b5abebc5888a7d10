"""HunyuanVideo's real pipelines, tiny and with random weights, built without a network."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from generators.tiny import WORDS, awake
from reelign.generators.hunyuan import TEMPLATE_LENGTH

MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "\n\n", "\n", "detail")
"""Llama-3's marks that the template holds. Its newlines are tokens, and a word is cut, so that the template is as long
as it is for the real tokenizer."""
LENGTH = 8
"""Tokens of a prompt."""
END = [("</s>", 1)]
"""One token is where a text begins and ends."""


def save_hunyuan(folder: Path, *, distilled: bool = True) -> None:
    """HunyuanVideo 1.0's layout, guidance-distilled as released or not; spatial stride 8, temporal stride 4.

    Scheduler as the checkpoints are exported (diffusers' scripts/convert_hunyuan_video_to_diffusers.py).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = HunyuanVideoPipeline(
            tokenizer=llama_tokenizer(),
            text_encoder=LlamaModel(llama_config()).eval(),
            tokenizer_2=clip_tokenizer(),
            text_encoder_2=clip(),
            transformer=awake(
                HunyuanVideoTransformer3DModel(
                    in_channels=4,
                    out_channels=4,
                    num_attention_heads=2,
                    attention_head_dim=16,
                    num_layers=1,
                    num_single_layers=2,
                    num_refiner_layers=1,
                    patch_size=2,
                    patch_size_t=1,
                    guidance_embeds=distilled,
                    text_embed_dim=16,
                    pooled_projection_dim=8,
                    rope_axes_dim=(4, 6, 6),
                )
            ),
            vae=hunyuan_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        )
    pipeline.save_pretrained(folder)


def hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=2
    ).eval()


def llama_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(llama_tokenizer()),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )


def clip() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(WORDS) + 3,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    ).eval()


def llama_tokenizer(template: str = DEFAULT_PROMPT_TEMPLATE["template"]) -> PreTrainedTokenizerFast:
    """Padded on the right; a prompt begins in it where it does for Llama-3's own, at token 95 of text-to-video's."""
    words = [word for word, _ in Whitespace().pre_tokenize_str(template)]
    return word_tokenizer([*MARKS, *WORDS, *words], MARKS, TemplateProcessing(single="</s> $A", special_tokens=END))


def clip_tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(list(WORDS), (), TemplateProcessing(single="$A </s>", special_tokens=END))


def word_tokenizer(words: list[str], marks: tuple[str, ...], frame: TemplateProcessing) -> PreTrainedTokenizerFast:
    names = dict.fromkeys(["<pad>", "</s>", "<unk>", *words])
    inner = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.add_special_tokens(list(marks))
    inner.post_processor = frame
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, padding_side="right", model_max_length=TEMPLATE_LENGTH + LENGTH, **special
    )
