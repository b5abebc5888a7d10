"""VideoReward checkpoints as their authors' code writes them, by the real PEFT over modules named as it names them.

From VideoAlign's trainer.py and utils.py (commit 219ab9d) under transformers 4.45: Qwen2VLRewardModelBT holds `visual`,
`model` (the decoder), `lm_head` and `rm_head`; LoRA is put on every Linear of `model`; save_full_model writes the state
dict of the PEFT model as model.pth, else PEFT's adapter and what else requires a gradient. Nothing here is taken from
the loader under test.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from rewards.tiny_qwen import tokenizer

TOKENS = ["<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>"]
STATISTICS = {
    "VQ_mean": 3.6757,
    "VQ_std": 2.2476,
    "MQ_mean": 1.1646,
    "MQ_std": 1.3811,
    "TA_mean": 2.8105,
    "TA_std": 2.5121,
}
"""The released inference_config."""


class OldLayout(nn.Module):
    """Qwen2VLRewardModelBT's parts under their names in transformers 4.45."""

    def __init__(self, base: Any, head_width: int) -> None:
        super().__init__()
        hidden = base.config.text_config.hidden_size
        self.config = base.config
        self.visual = base.model.visual
        self.model = base.model.language_model
        self.lm_head = nn.Linear(hidden, base.config.text_config.vocab_size, bias=False)
        self.rm_head = nn.Linear(hidden, head_width, bias=False)

    def forward(self, input_ids: Tensor, pixels: Tensor, grids: Tensor, mask: Tensor, tokens: list[int]) -> Tensor:
        """As trainer.py, l. 60 to 152: no positions are given to the decoder, so it counts 0, 1, 2 …"""
        embeddings = self.model.embed_tokens(input_ids)
        seen = self.visual(pixels, grid_thw=grids).pooler_output
        at = (input_ids == self.config.video_token_id).unsqueeze(-1).expand_as(embeddings)
        states = self.model(inputs_embeds=embeddings.masked_scatter(at, seen), attention_mask=mask).last_hidden_state
        chosen = torch.isin(input_ids, torch.tensor(tokens))
        scores = self.rm_head(states)[chosen].view(len(input_ids), 3, -1)
        return scores.diagonal(dim1=1, dim2=2) if scores.shape[2] == 3 else scores[..., 0]


def wrap(base: Any, head_width: int, *, rank: int = 4) -> Any:
    """The PEFT model over a base model whose table has the reward tokens' rows."""
    model = OldLayout(base, head_width)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets = [name for name in linear if not any(part in name for part in ("lm_head", "rm_head", "visual"))]
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=targets, bias="none")
    return get_peft_model(model, lora).eval()


def trained(base: Any, head_width: int) -> tuple[Any, Any]:
    """The tokenizer with its three tokens, and the PEFT model with weights as if trained."""
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": TOKENS})
    base = copy.deepcopy(base)
    base.resize_token_embeddings(len(words), mean_resizing=False)
    wrapped = wrap(base, head_width)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name or "rm_head" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "visual" in name or "embed_tokens" in name:
                # Trained beside LoRA; of the table, only the tokens' rows end up changed.
                weight.requires_grad_()
        wrapped.base_model.model.model.embed_tokens.weight[-3:] += 0.5
        wrapped.base_model.model.visual.merger.ln_q.bias += 0.1
    wrapped.base_model.model.rm_head.weight.requires_grad_()
    return words, wrapped


def config(base: str, head_width: int, **changes: Any) -> dict[str, Any]:
    """A model_config.json: the fields of DataConfig, ModelConfig and PEFTLoraConfig that matter, and some others."""
    held: dict[str, Any] = {
        "data_config": {
            "meta_data": "/data/train.csv",
            "data_dir": "/data",
            "max_frame_pixels": 200704,
            "num_frames": None,
            "fps": 2.0,
            "eval_dim": ["VQ", "MQ", "TA"],
            "prompt_template_type": "detailed_special",
            "sample_type": "uniform",
            "use_tied_data": True,
        },
        "training_args": {"learning_rate": 2e-06},
        "model_config": {
            "model_name_or_path": base,
            "output_dim": head_width,
            "use_special_tokens": True,
            "reward_token": "special",
            "loss_type": "btt",
            "torch_dtype": "bfloat16",
        },
        "peft_lora_config": {
            "lora_enable": True,
            "vision_lora": False,
            "lora_r": 4,
            "lora_alpha": 8,
            "lora_namespan_exclude": ["lm_head", "rm_head", "embed_tokens", "visual"],
            "use_rslora": False,
        },
        "inference_config": STATISTICS,
    }
    for name, value in changes.items():
        for block in held.values():
            if name in block:
                block[name] = value
    return held


def write_config(folder: Path, held: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_config.json").write_text(json.dumps(held, indent=4))


def write_full(folder: Path, words: Any, wrapped: Any, step: int = 30) -> Path:
    """checkpoint-N of a release (save_full_model)."""
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    torch.save(wrapped.state_dict(), place / "model.pth")
    words.save_pretrained(place / "tokenizer")
    return place


def write_training(folder: Path, words: Any, wrapped: Any, step: int = 30) -> Path:
    """checkpoint-N of a training run."""
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    wrapped.save_pretrained(place)
    others = {name: weight.detach() for name, weight in wrapped.named_parameters() if weight.requires_grad}
    torch.save(
        {name: weight for name, weight in others.items() if "lora_" not in name}, place / "non_lora_state_dict.pth"
    )
    words.save_pretrained(place / "tokenizer")
    return place
