"""What rewards on Qwen-VL backbones share: chat text, batches of videos of different lengths, positions, one forward.

The backbone is held whole (`AutoModel`: Qwen2VLModel, Qwen2_5_VLModel, Qwen3VLModel) and never subclassed:
transformers 5 renames the keys of hub checkpoints by class name and leaves a subclass with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.preprocess import CLIP_MEAN, CLIP_STD, HALF, RGB
from reelign.rewards.qwen_vision import Patches, PatchLayout, normalise

Positions: TypeAlias = Literal["sequential", "multimodal"]
"""Rotary positions of the language model.

"sequential": 0, 1, 2 … on all three axes, over video and text alike. VideoReward and VideoScore-Qwen2-VL were trained
so, since their forward passes no positions to transformers 4.45's decoder; other positions give other scores.
"multimodal": the backbone's own M-RoPE, time, row and column of each patch; what it was pretrained with, and what new
training starts from.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What differs between Qwen-VL generations outside their modules."""

    mean: RGB = CLIP_MEAN
    std: RGB = CLIP_STD
    system: str = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    """What the chat template begins with where the user gives no system message."""
    timestamps: bool = False
    """Each patch of time stands apart behind its time in seconds, as text."""


FAMILIES = {
    "qwen2_vl": Family(),
    "qwen2_5_vl": Family(),
    "qwen3_vl": Family(mean=HALF, std=HALF, system="", timestamps=True),
}
"""By `model_type` of the config."""


def family_of(config: Any) -> Family:
    """The family of a backbone's config.

    Raises:
        ReelignError: a model of another kind.
    """
    if config.model_type not in FAMILIES:
        raise ReelignError(
            f"The backbone is a {config.model_type} model.",
            f"Use one of {', '.join(FAMILIES)}, such as Qwen/Qwen2-VL-2B.",
        )
    return FAMILIES[config.model_type]


def patch_layout(config: Any) -> PatchLayout:
    """How the backbone of this config takes pixels."""
    family, vision = family_of(config), config.vision_config
    return PatchLayout(
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.spatial_merge_size,
        mean=family.mean,
        std=family.std,
    )


def video_text(seen: Patches, *, family: Family, merge_size: int) -> str:
    """The placeholders that a video's tokens take the place of.

    Args:
        seen: the video.
        family: of the backbone.
        merge_size: patches per side in one token.
    """
    time, height, width = seen.grid
    of_a_time = "<|video_pad|>" * (height * width // merge_size**2)
    if family.timestamps:
        return "".join(f"<{at:.1f} seconds><|vision_start|>{of_a_time}<|vision_end|>" for at in seen.times)
    return f"<|vision_start|>{of_a_time * time}<|vision_end|>"


def chat_text(user: str, *, family: Family, answer: str | None = None) -> str:
    """A chat as the family's template writes it.

    Args:
        user: the user's turn, videos among it as `video_text`.
        family: of the backbone.
        answer: the assistant's turn; None leaves it to begin.
    """
    spoken = "" if answer is None else f"{answer}<|im_end|>\n"
    return f"{family.system}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{spoken}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """B videos with their texts, of any lengths and sizes: one forward call."""

    pixels: Tensor
    """(N, 3·P·p·p) the patches of all videos, one video behind the other: uint8, or float32 in 0..255."""
    grids: Tensor
    """(B, 3) int64: T, H, W of each video."""
    input_ids: Tensor
    """(B, L) int64 tokens, padded on the right; causal attention makes the padding invisible."""
    attention_mask: Tensor
    """(B, L) int64: 1 for tokens, 0 for padding."""
    seconds_per_patch: Tensor
    """(B) float32: seconds from one patch to the next over time."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> ClipBatch:
        moved = {name: getattr(self, name).to(device) for name in ClipBatch.__slots__}
        return replace(self, **moved)


def collate(seen: Sequence[Patches], ids: Sequence[Sequence[int]], *, pad: int) -> ClipBatch:
    """Put prepared videos and their token ids together.

    Args:
        seen, ids: B each.
        pad: the token to pad with; its value has no effect.
    """
    longest = max(map(len, ids))
    return ClipBatch(
        pixels=torch.cat([patches.pixels for patches in seen]),
        grids=torch.tensor([patches.grid for patches in seen]),
        input_ids=torch.tensor([[*row, *[pad] * (longest - len(row))] for row in ids]),
        attention_mask=torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        seconds_per_patch=torch.tensor([patches.seconds_per_patch for patches in seen]),
    )


def rotary_positions(backbone: Any, batch: ClipBatch, positions: Positions) -> Tensor:
    """(3, B, L) int64 positions over time, height and width; padding's have no effect."""
    rows, length = batch.input_ids.shape
    if positions == "sequential":
        return torch.arange(length, device=batch.input_ids.device).expand(3, rows, length)
    # Qwen2.5-VL spaces time by the clock; the others take no notice.
    found: Tensor = backbone.get_rope_index(
        batch.input_ids,
        mm_token_type_ids=2 * (batch.input_ids == backbone.config.video_token_id).int(),
        video_grid_thw=batch.grids,
        attention_mask=batch.attention_mask,
        second_per_grid_ts=batch.seconds_per_patch,
    )[0]
    return found


def hidden_states(backbone: Any, batch: ClipBatch, embeddings: Tensor, *, positions: Positions) -> Tensor:
    """Run vision tower and language model once over a batch.

    Args:
        backbone: of one of `FAMILIES`.
        batch: B videos and texts.
        embeddings: (B, L, hidden) of the tokens; those of the video's are overwritten by what the tower sees.
        positions: which rotary positions.
    Returns:
        (B, L, hidden) behind the last norm.
    """
    pixels = normalise(batch.pixels, patch_layout(backbone.config))
    tower = backbone.get_video_features(pixels, batch.grids)
    at_video = batch.input_ids == backbone.config.video_token_id
    seen = torch.cat(list(tower.pooler_output)).to(embeddings.dtype)
    extra: dict[str, Any] = {}
    if getattr(tower, "deepstack_features", None) is not None:
        # Qwen3-VL adds the tower's middle layers to the language model's first ones.
        features = [torch.cat(list(layer)) for layer in tower.deepstack_features]
        extra = {"visual_pos_masks": at_video, "deepstack_visual_embeds": features}
    found: Tensor = backbone.language_model(
        inputs_embeds=embeddings.masked_scatter(at_video[..., None], seen),
        # Padding is on the right, where causal attention does not look: no mask is made of it, and the causal kernel
        # is used. None would have some versions look for packed texts in the positions.
        attention_mask=torch.ones_like(batch.attention_mask),
        position_ids=rotary_positions(backbone, batch, positions),
        use_cache=False,
        **extra,
    ).last_hidden_state
    return found
