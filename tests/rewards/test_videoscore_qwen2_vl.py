"""VideoScore on Qwen2-VL: checkpoints in the layout of Mantis' class, with both kinds of head, against its forward."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import PatchLayout, look, normalise
from reelign.rewards.videoscore_qwen2_vl import NAMES, QUESTION, VideoScoreQwen2VL
from rewards import tiny_qwen
from rewards.tiny_qwen import SMALL, clip, tokenizer

LABELS = [f"<|LABEL_{number}|>" for number in range(1, 6)]
"""As Mantis' train_qwen2_vl.py adds them."""
PROMPT = "A red square moves left."
KINDS = ("last", "special_token")


def write(folder: Path, kind: str) -> tuple[Path, Any, dict[str, Tensor]]:
    """config.json, shards and tokenizer of Qwen2VLForSequenceClassification (Mantis, modeling_qwen2_vl.py).

    Its attributes are `visual`, `model` (the decoder) and `score`; the config is Qwen2-VL's flat one of 4.45.
    """
    base = tiny_qwen.qwen2_vl()
    words = tokenizer()
    if kind == "special_token":
        words.add_tokens(LABELS, special_tokens=True)
    words.save_pretrained(folder)
    # Stock checkpoints have these keys too, beside lm_head.
    base.save_pretrained(folder)
    held = {key: value for key, value in load_file(folder / "model.safetensors").items() if key != "lm_head.weight"}
    (folder / "model.safetensors").unlink()
    generator = torch.Generator().manual_seed(3)
    rows = {
        "weight": torch.randn(5, tiny_qwen.HIDDEN, generator=generator),
        "bias": torch.randn(5, generator=generator),
    }
    if kind == "last":
        head = {f"score.{part}": value for part, value in rows.items()}
    else:
        head = {f"score.{index}.{part}": rows[part][index : index + 1] for index in range(5) for part in rows}
    keys = sorted(held)
    save_file({key: held[key] for key in keys[::2]}, folder / "model-00001-of-00002.safetensors")
    save_file({**{key: held[key] for key in keys[1::2]}, **head}, folder / "model-00002-of-00002.safetensors")
    text, vision = base.config.text_config.to_dict(), base.config.vision_config.to_dict()
    flat = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = {
        "architectures": ["Qwen2VLForSequenceClassification"],
        "model_type": "qwen2_vl",
        **{name: text[name] for name in (*flat, "num_key_value_heads", "rms_norm_eps")},
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "vision_config": {
            name: vision[name]
            for name in (
                "depth",
                "embed_dim",
                "hidden_size",
                "num_heads",
                "mlp_ratio",
                "patch_size",
                "spatial_merge_size",
            )
        },
        **{name: getattr(base.config, name) for name in ("image_token_id", "video_token_id", "vision_start_token_id")},
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": words.pad_token_id,
    }
    if kind == "special_token":
        config |= {"score_type": kind, "label_special_token_ids": words.convert_tokens_to_ids(LABELS)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, base, rows


def reference(base: Any, rows: dict[str, Tensor], kind: str, video: Tensor) -> Tensor:
    """The class' forward for one video; it hands the decoder no positions, so that it counts."""
    seen = look(video, 8.0, settings=replace(SMALL, fps=8.0), layout=PatchLayout())
    pads = "<|video_pad|>" * (seen.grid[0] * seen.grid[1] * seen.grid[2] // 4)
    shown, asked = f"<|vision_start|>{pads}<|vision_end|>", QUESTION.format(text_prompt=PROMPT)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    words = tokenizer()
    if kind == "last":
        # The model's card: video, then question, then the generation prompt.
        text = f"{system}{shown}{asked}<|im_end|>\n<|im_start|>assistant\n"
    else:
        # Qwen2VideoClassificationDataset in mantis/train/data.py: question, then video, then an answer of labels.
        words.add_tokens(LABELS, special_tokens=True)
        names = ["visual quality", "temporal consistency", "dynamic degree", "text-to-video alignment"]
        pairs = zip([*names, "factual consistency"], LABELS, strict=True)
        answer = "".join(f"The score for {name} is {label}. " for name, label in pairs)
        text = f"{system}{asked}{shown}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    ids = torch.tensor([words(text)["input_ids"]])
    with torch.no_grad():
        embeddings = base.model.language_model.embed_tokens(ids)
        tokens = base.model.visual(
            normalise(seen.pixels, PatchLayout()), grid_thw=torch.tensor([seen.grid])
        ).pooler_output
        at = (ids == base.config.video_token_id).unsqueeze(-1)
        states = base.model.language_model(inputs_embeds=embeddings.masked_scatter(at, tokens)).last_hidden_state[0]
    if kind == "last":
        return rows["weight"] @ states[-1] + rows["bias"]
    places = [ids[0].tolist().index(token) for token in words.convert_tokens_to_ids(LABELS)]
    return (rows["weight"] * states[places]).sum(1) + rows["bias"]


def test_the_question_is_the_published_one() -> None:
    assert len(QUESTION) == 1163
    assert hashlib.sha256(QUESTION.encode()).hexdigest().startswith("49b386d9ea30")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_authors_class(tmp_path: Path, kind: str) -> None:
    folder, base, rows = write(tmp_path, kind)
    # As a file of settings gives them; the rate of 8 frames a second is the card's.
    reward = VideoScoreQwen2VL(model=str(folder), clips={"min_pixels": 28 * 28, "max_pixels": 4 * 28 * 28})
    clips = [clip(6), clip(40, 70, 56, seed=1)]
    found = reward.score(clips, [PROMPT, PROMPT], fps=8.0)
    assert list(found) == [name.replace(" ", "_").replace("-", "_") for name in NAMES]
    for row, video in enumerate(clips):
        mine = torch.stack([scores[row] for scores in found.values()])
        torch.testing.assert_close(mine, reference(base, rows, kind, video), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("last", "score.bias", r"lacks the weight score\.bias"),
        ("special_token", "score.3.weight", r"lacks the weight score\.3\.weight"),
        ("last", "model.norm.weight", r"lacks the weight language_model\.norm\.weight"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, kind: str, key: str, message: str) -> None:
    folder, _, _ = write(tmp_path, kind)
    for file in folder.glob("*.safetensors"):
        save_file({name: value for name, value in load_file(file).items() if name != key}, file)
    with pytest.raises(ReelignError, match=message):
        VideoScoreQwen2VL(model=str(folder))


def test_a_head_of_the_other_kind_and_a_stray_key_are_named(tmp_path: Path) -> None:
    folder, _, _ = write(tmp_path, "special_token")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "score_type": "end_token_mlp"}))
    with pytest.raises(ReelignError, match=r"lacks the weight score\.weight"):
        VideoScoreQwen2VL(model=str(folder))
    (folder / "config.json").write_text(json.dumps({**config, "label_special_token_ids": [1, 2]}))
    with pytest.raises(ReelignError, match="has 2 labels"):
        VideoScoreQwen2VL(model=str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"model.extra.weight": torch.zeros(1)}, folder / "model-00003.safetensors")
    with pytest.raises(ReelignError, match=r"without a place for it, the weight model\.extra\.weight"):
        VideoScoreQwen2VL(model=str(folder))
