"""VideoReward's weights as their authors' code leaves them (VideoAlign, transformers 4.45, peft 0.10), loaded strictly.

Two layouts. Released is one state dict of the whole model inside PEFT, checkpoint-N/model.pth by model_config.json:

    base_model.model.visual.…                                                  vision tower
    base_model.model.model.layers.0.self_attn.q_proj.base_layer.{weight,bias}  language model under LoRA
    base_model.model.model.layers.0.self_attn.q_proj.lora_{A,B}.default.weight
    base_model.model.model.embed_tokens.weight                                 its last rows are the reward tokens'
    base_model.model.lm_head.weight                                            a copy of the table that nothing reads
    base_model.model.rm_head.weight                                            the head, (1 or 3, hidden)

Its training checkpoints hold checkpoint-N/adapter_model.safetensors (LoRA, without `.default`) and
non_lora_state_dict.pth (what else was trained), over the weights of the base model. LoRA is folded into the weights
in float32: W + alpha / r · B·A.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.loading import load_part, load_strictly, read_weights
from reelign.rewards.qwen_vl import family_of
from reelign.rewards.qwen_vl_weights import canonical, empty_backbone, fetch_folder, load_backbone
from reelign.rewards.videoreward_config import PublicConfig, read_public_config
from reelign.rewards.videoreward_model import VideoRewardModel

__all__ = ["HUB_ID", "fetch_folder", "fold_lora", "from_videoreward"]

HUB_ID = "KlingTeam/VideoReward"
TABLE = "language_model.embed_tokens.weight"
HEAD = "rm_head.weight"
WRAPPED = "base_model.model."
"""What PEFT puts before every key."""


def from_videoreward(
    source: str = HUB_ID,
    *,
    backbone: str = "",
    step: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VideoRewardModel:
    """VideoReward's model with its released weights, to score with or to train on from; positions are sequential.

    Args:
        source: hub id or folder with model_config.json and checkpoint-N/.
        backbone: hub id or folder of the base model, of which config (and, for a training checkpoint, weights) is
            read; '' takes the one that model_config.json names.
        step: which checkpoint-N; None is the last.
        device, dtype: of the weights.
    Raises:
        ReelignError: files that are missing, settings that another code would be needed for, a key that is missing,
            has no place or another shape, a head of another width.
    """
    folder = fetch_folder(source)
    config = read_public_config(folder / "model_config.json")
    checkpoint = _checkpoint(folder, step)
    base = backbone or config.base
    base_config = _base_config(base, folder)
    if (checkpoint / "model.pth").is_file():
        weights = unwrapped(read_weights(checkpoint / "model.pth"))
        weights = fold_lora(weights, config, str(checkpoint / "model.pth"), dtype=dtype)
        empty = _empty(base_config, weights, dtype, str(checkpoint / "model.pth"))
        return _assemble(empty, weights, config, _tokenizer(checkpoint, base), checkpoint).to(device)
    trained = _read_trained(checkpoint)
    grown = load_backbone(base, device="cpu", dtype=dtype)
    weights = fold_lora(_overlay(grown, trained, checkpoint), config, str(checkpoint), dtype=dtype)
    return _assemble(grown, weights, config, _tokenizer(checkpoint, base), checkpoint).to(device)


def _checkpoint(folder: Path, step: int | None) -> Path:
    found = {
        int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()
    }
    if not found:
        raise ReelignError(f"{folder} holds no checkpoint-N folder.", "Name the folder that model_config.json is in.")
    if step is not None and step not in found:
        raise ReelignError(
            f"{folder} holds no checkpoint-{step}.", f"It holds those of steps {', '.join(map(str, sorted(found)))}."
        )
    return found[max(found) if step is None else step]


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without PEFT's marks in the keys, and the backbone's by its modules' names; rm_head.weight and LoRA's beside."""

    def bare(key: str) -> str:
        return key.removeprefix(WRAPPED).replace(".default.weight", ".weight").replace(".base_layer.", ".")

    return canonical({bare(key): value for key, value in weights.items()})


def fold_lora(
    weights: Mapping[str, Tensor], config: PublicConfig, source: str, *, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Weights with W + scale · B·A in place of W, A and B; summed in float32.

    Args:
        weights: by canonical key; .lora_A.weight is (r, in), .lora_B.weight (out, r).
        config: for r and the scale.
        source: named in errors.
        dtype: of the sums.
    Raises:
        ReelignError: one of the three without the others, or another rank than the config's.
    """
    folded = {key: value for key, value in weights.items() if ".lora_" not in key}
    for key in weights:
        if ".lora_" not in key:
            continue
        stem = key.partition(".lora_")[0]
        down, up, base = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", f"{stem}.weight"
        if key not in (down, up):
            raise ReelignError(
                f"{source} holds, without a place for it, the weight {key}.", "Only LoRA's A and B are known."
            )
        for needed in (down, up, base):
            if needed not in weights:
                raise ReelignError(f"{source} holds {key} and lacks {needed}.", "Download it again.")
        if key != down:
            continue
        if weights[down].shape[0] != config.lora_rank or weights[up].shape[1] != config.lora_rank:
            raise ReelignError(
                f"{source} holds {down} of rank {weights[down].shape[0]}; model_config.json says {config.lora_rank}.",
                "Take both from the same run.",
            )
        delta = config.lora_scale * (weights[up].float() @ weights[down].float())
        folded[base] = (weights[base].float() + delta).to(dtype)
    return folded


def _read_trained(checkpoint: Path) -> dict[str, Tensor]:
    """What a training checkpoint holds: LoRA and everything else that was trained, by canonical key."""
    files = [checkpoint / name for name in ("adapter_model.safetensors", "non_lora_state_dict.pth")]
    for file in files:
        if not file.is_file():
            raise ReelignError(
                f"{checkpoint} holds neither model.pth nor both of {' and '.join(each.name for each in files)}.",
                "Copy the checkpoint's files whole.",
            )
    found = [unwrapped(read_weights(file)) for file in files]
    for needed in (TABLE, HEAD):
        if needed not in found[1]:
            raise ReelignError(f"{files[1]} lacks {needed}.", "It must hold the trained embeddings and the head.")
    return {**found[1], **found[0]}


def _overlay(backbone: Any, trained: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The base model's weights with those that were trained in their place."""
    backbone.resize_token_embeddings(trained[TABLE].shape[0], mean_resizing=False)
    weights: dict[str, Tensor] = backbone.state_dict()
    for key in trained:
        if key not in weights and ".lora_" not in key and key not in (HEAD, "lm_head.weight"):
            raise ReelignError(
                f"{checkpoint} holds, without a place for it, the weight {key}.",
                "Check which base model it was trained on.",
            )
    return {**weights, **trained}


def _base_config(base: str, folder: Path) -> Any:
    """The base model's config; a name that only its trainer's machine knows is told from a broken download."""
    from transformers import AutoConfig

    try:
        config = load_part(AutoConfig, base)
    except ReelignError as error:
        raise ReelignError(
            f"The base model of {folder} cannot be opened: {error.what}",
            "Name it by the setting backbone: hub id or folder; the released one's is Qwen/Qwen2-VL-2B-Instruct.",
        ) from error
    family_of(config)
    return config


def _empty(config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype, source: str) -> Any:
    """The backbone that such weights fill; its vocabulary was cut to the tokenizer's length in training."""
    if TABLE not in weights or HEAD not in weights:
        lacking = TABLE if TABLE not in weights else HEAD
        raise ReelignError(
            f"{source} lacks {lacking}; its first key is {next(iter(weights), 'none')}.",
            "It is not in VideoReward's layout: name a checkpoint of VideoAlign's code.",
        )
    config.text_config.vocab_size = weights[TABLE].shape[0]
    return empty_backbone(config, dtype=dtype)


def _assemble(
    backbone: Any, weights: dict[str, Tensor], config: PublicConfig, tokenizer: Any, checkpoint: Path
) -> VideoRewardModel:
    """Every weight in its place: the backbone's, the head, and the reward tokens' rows of the table."""
    # A tied or copied output table that no reward reads.
    weights.pop("lm_head.weight", None)
    head = weights.pop(HEAD)
    if head.shape[0] != config.head_width:
        raise ReelignError(
            f"The head {HEAD} of {checkpoint} is {head.shape[0]} wide; model_config.json says {config.head_width}.",
            "Take both from the same run.",
        )
    load_strictly(backbone, weights, str(checkpoint))
    model = VideoRewardModel(backbone, tokenizer, config.settings())
    table = backbone.get_input_embeddings().weight
    if max(model.preparer.reward_ids) >= len(table):
        raise ReelignError(
            f"The tokenizer gives the reward tokens the ids {model.preparer.reward_ids}; "
            f"the table of {checkpoint} ends at {len(table) - 1}.",
            "Take the tokenizer that the model was trained with: checkpoint-N/tokenizer.",
        )
    load_strictly(model.head, {"weight": head}, str(checkpoint))
    assert model.reward_tokens is not None
    with torch.no_grad():
        model.reward_tokens.copy_(table[list(model.preparer.reward_ids)])
    return model.eval()


def _tokenizer(checkpoint: Path, base: str) -> Any:
    from transformers import AutoTokenizer

    own = checkpoint / "tokenizer"
    return load_part(AutoTokenizer, str(own) if own.is_dir() else base)
