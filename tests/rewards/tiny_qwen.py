"""Qwen-VL backbones of real classes at a tiny size, a byte-level tokenizer with Qwen's special tokens, moving clips."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from reelign.rewards.qwen_vision import ClipSettings
from reelign.rewards.videoreward_template import DETAILED_SPECIAL

SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""In the order of Qwen2-VL's tokenizer, behind <|endoftext|>."""
HIDDEN = 16
SPARE_ROWS = 13
"""Rows of the embedding table behind the tokenizer's last id; Qwen2-VL-2B has 279 (151936 for 151657)."""
SMALL = ClipSettings(fps=2.0, min_pixels=28 * 28, max_pixels=4 * 28 * 28)
"""A frame is 1 to 4 tokens."""


@cache
def _words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in which VideoReward's template is about 900 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([DETAILED_SPECIAL, "A red square moves left. A blue disc moves right."], trainer)
    held = json.loads(tokenizer.to_str())["model"]
    return held["vocab"], [tuple(pair) for pair in held["merges"]]


def tokenizer() -> Qwen2Tokenizer:
    vocabulary, merges = _words()
    made = Qwen2Tokenizer(vocab=dict(vocabulary), merges=list(merges))
    made.add_tokens(list(SPECIAL), special_tokens=True)
    return made


def _ids() -> dict[str, int]:
    made = tokenizer()
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    return {name: made.convert_tokens_to_ids(token) for name, token in zip(names, tokens, strict=True)}


def _text(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer()) + SPARE_ROWS,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        "bos_token_id": None,
        "eos_token_id": None,
        # Wide enough that positions and words move the scores.
        "initializer_range": 0.3,
        **more,
    }


def qwen2_vl(**settings: Any) -> Qwen2VLForConditionalGeneration:
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2}
    vision["initializer_range"] = 0.1
    config = Qwen2VLConfig(text_config=_text(), vision_config=vision, **_ids(), **settings)
    return _seeded(Qwen2VLForConditionalGeneration, config)


def qwen2_5_vl() -> Qwen2_5_VLForConditionalGeneration:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.1,
    }
    return _seeded(
        Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig(text_config=_text(), vision_config=vision, **_ids())
    )


def qwen3_vl() -> Qwen3VLForConditionalGeneration:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
        "initializer_range": 0.1,
    }
    text = _text(head_dim=8)
    return _seeded(Qwen3VLForConditionalGeneration, Qwen3VLConfig(text_config=text, vision_config=vision, **_ids()))


FAMILIES = {"qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl}


def _seeded(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def save(model: Any, folder: Path) -> Path:
    """A base model as the hub has it: weights in the old key layout, config, tokenizer."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def scripted(tiny: Any, chain: dict[str, dict[str, float]], folder: Path) -> Path:
    """A model like `tiny`, in a folder, whose next token depends on the last one alone, by a table of probabilities.

    Nothing leaves the layers, so that the last norm sees the token's embedding, a unit vector e_t; the head's row of
    a next token holds the logits at e_t.

    Args:
        chain: after each token, the probabilities of the next; tokens that the tokenizer lacks are added to it.
    """
    config = tiny.config
    words = tokenizer()
    names = dict.fromkeys([*chain, *(name for following in chain.values() for name in following)])
    words.add_tokens([name for name in names if len(words.encode(name, add_special_tokens=False)) > 1])
    config.text_config.vocab_size = len(words)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model = type(tiny)(config).eval()
    text = model.model.language_model
    for layer in text.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    text.embed_tokens.weight.data.zero_()
    model.lm_head.weight.data.zero_()
    one = {name: words.encode(name, add_special_tokens=False)[-1] for name in names}
    scale = config.text_config.hidden_size**0.5  # of a unit vector behind RMSNorm
    for axis, (token, following) in enumerate(chain.items()):
        text.embed_tokens.weight.data[one[token], axis] = 1
        for other, probability in following.items():
            logit = torch.tensor(probability).log() + 20  # 20 above all tokens that are not in the chain
            model.lm_head.weight.data[one[other], axis] = logit / scale
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def clip(frames: int, height: int = 56, width: int = 56, seed: int = 0) -> Tensor:
    """(frames, 3, height, width) in [0, 1]: smooth noise that drifts."""
    coarse = torch.rand(1, 3, 5, 9, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(coarse, size=(height, 2 * width), mode="bilinear", align_corners=True)[0]
    return torch.stack([wide[..., at : at + width] for at in (index * width // frames for index in range(frames))])
