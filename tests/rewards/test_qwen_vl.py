"""Batches of videos through each family of backbones, against the families' own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import Patches, look, normalise
from reelign.rewards.qwen_vl import (
    FAMILIES,
    ClipBatch,
    chat_text,
    collate,
    family_of,
    hidden_states,
    patch_layout,
    video_text,
)
from reelign.rewards.qwen_vl_weights import canonical, empty_backbone, load_backbone
from rewards import tiny_qwen
from rewards.tiny_qwen import SMALL, clip, tokenizer

ONE = Patches(pixels=torch.empty(0), grid=(2, 2, 4), times=(0.25, 1.3), seconds_per_patch=1.0)
"""Two times of 1 x 2 tokens."""


def prepared(backbone: Any, lengths: tuple[int, ...]) -> ClipBatch:
    layout, family, words = patch_layout(backbone.config), family_of(backbone.config), tokenizer()
    seen = [look(clip(n, 56 + 8 * n, 60), 8.0, settings=SMALL, layout=layout) for n in lengths]
    texts = [video_text(each, family=family, merge_size=2) + "A red square" + " moves" * each.grid[0] for each in seen]
    ids = [words(chat_text(text, family=family))["input_ids"] for text in texts]
    return collate(seen, ids, pad=words.pad_token_id)


def run(backbone: Any, batch: ClipBatch, positions: Any) -> torch.Tensor:
    with torch.no_grad():
        return hidden_states(backbone, batch, backbone.get_input_embeddings()(batch.input_ids), positions=positions)


@pytest.mark.parametrize("family", FAMILIES)
def test_multimodal_positions_give_the_familys_own_forward(family: str) -> None:
    backbone = tiny_qwen.FAMILIES[family]().model
    batch = prepared(backbone, (8, 30))
    with torch.no_grad():
        own = backbone(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values_videos=normalise(batch.pixels, patch_layout(backbone.config)),
            video_grid_thw=batch.grids,
            mm_token_type_ids=2 * (batch.input_ids == backbone.config.video_token_id).int(),
            # Only Qwen2.5-VL knows of it.
            **({"second_per_grid_ts": batch.seconds_per_patch} if family == "qwen2_5_vl" else {}),
        ).last_hidden_state
    ours = run(backbone, batch, "multimodal")
    real = batch.attention_mask.bool()
    torch.testing.assert_close(ours[real], own[real], rtol=1e-4, atol=1e-5)
    assert (run(backbone, batch, "sequential") - ours)[real].abs().max() > 0.05


@pytest.mark.parametrize("positions", ["sequential", "multimodal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_is_seen_alike_alone_and_beside_longer_ones(family: str, positions: str) -> None:
    backbone = tiny_qwen.FAMILIES[family]().model
    lengths = (8, 30, 18)
    together = run(backbone, prepared(backbone, lengths), positions)
    for row, length in enumerate(lengths):
        alone = run(backbone, prepared(backbone, (length,)), positions)[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_chats_are_written_as_the_families_templates_write_them() -> None:
    pads = "<|video_pad|>" * 2
    old = FAMILIES["qwen2_vl"]
    assert chat_text(video_text(ONE, family=old, merge_size=2) + "Rate it.", family=old) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{pads}{pads}<|vision_end|>Rate it.<|im_end|>\n<|im_start|>assistant\n"
    )
    # Qwen3-VL has no default system turn, and the time before each patch of it.
    new = FAMILIES["qwen3_vl"]
    assert chat_text(video_text(ONE, family=new, merge_size=2) + "Rate it.", family=new, answer="4") == (
        f"<|im_start|>user\n<0.2 seconds><|vision_start|>{pads}<|vision_end|><1.3 seconds><|vision_start|>{pads}"
        "<|vision_end|>Rate it.<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    )


def test_a_backbone_is_loaded_whole_from_the_hubs_key_layout(tmp_path: Path) -> None:
    base = tiny_qwen.qwen2_vl()
    tiny_qwen.save(base, tmp_path)
    keys = load_file(tmp_path / "model.safetensors")
    assert {"visual.patch_embed.proj.weight", "model.layers.0.self_attn.q_proj.weight"} <= keys.keys(), "the old layout"
    loaded = load_backbone(str(tmp_path), device="cpu", dtype=torch.float32).state_dict()
    assert loaded.keys() == base.model.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in base.model.state_dict().items())
    del keys["model.layers.1.mlp.up_proj.weight"]
    save_file(keys, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=r"lacks the weight .*layers\.1\.mlp\.up_proj\.weight"):
        load_backbone(str(tmp_path), device="cpu", dtype=torch.float32)


def test_both_layouts_of_transformers_become_the_live_one() -> None:
    live = tiny_qwen.qwen2_vl().model.state_dict()
    old = {key.replace("language_model.", "model."): value for key, value in live.items()}
    new = {f"model.{key}": value for key, value in live.items()}
    assert canonical(old).keys() == canonical(new).keys() == canonical(live).keys() == live.keys()


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    LlamaConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ReelignError, match="The backbone is a llama model"):
        load_backbone(str(tmp_path), device="cpu", dtype=torch.float32)
    with pytest.raises(ReelignError, match="The backbone is a llama model"):
        empty_backbone(LlamaConfig(num_hidden_layers=1), dtype=torch.float32)
