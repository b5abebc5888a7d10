"""Reward models without values: what one holds in memory is known before anything is downloaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.recipes.online.feedback import LATENT
from reelign.recipes.reward_gradient.scoring import checkpoint_models, modules_of
from reelign.rewards.base import Reward, RewardCard, Videos
from reelign.rewards.images import counts, in_batches
from reelign.rewards.images import look as look_at_frames
from reelign.rewards.opening import card_of, check_reward, open_reward
from reelign.rewards.preprocess import Preprocessing, spaced
from reelign.rewards.qwen_vision import ClipSettings, look
from reelign.rewards.qwen_vl import collate, hidden_states, patch_layout
from reelign.rewards.table import REWARDS
from reelign.training.memory import META

TEXT_TOKENS = 400
"""Of VideoReward's question with a prompt in it."""
QWEN2_VL_2B: dict[str, Any] = {
    "text_config": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
}
"""Qwen/Qwen2-VL-2B's config.json, as far as sizes go."""
VIT_L: dict[str, Any] = {
    "projection_dim": 768,
    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                      "num_attention_heads": 16, "patch_size": 14},
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}  # fmt: skip
"""openai/clip-vit-large-patch14's config.json."""
VIT_B: dict[str, Any] = {
    "projection_dim": 512,
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                      "num_attention_heads": 12, "patch_size": 32},
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
}  # fmt: skip
"""openai/clip-vit-base-patch32's config.json."""
VIT_H: dict[str, Any] = {
    "projection_dim": 1024,
    "vision_config": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                      "num_attention_heads": 16, "patch_size": 14},
    "text_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
}  # fmt: skip
"""laion/CLIP-ViT-H-14-laion2B-s32B-b79K's config.json."""


class QwenShapes(Reward):
    """VideoReward's forward pass over Qwen2-VL-2B: its own frames, patches and positions, a scalar a dimension."""

    def __init__(self, card: RewardCard, *, batch_size: int = 8, dtype: str = "auto", **others: Any) -> None:
        from transformers import Qwen2VLConfig, Qwen2VLModel

        precision = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
        with META:
            self.model = Qwen2VLModel._from_config(Qwen2VLConfig(**QWEN2_VL_2B), dtype=precision)
            self.model.requires_grad_(False).eval()
        self.card, self.batch_size = card, batch_size  # type: ignore[misc]
        self.dimensions = (*card.dimensions, *(["overall"] if others.get("overall") else []))
        self.name, self.version = "videoreward", "shapes"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        layout, found = patch_layout(self.model.config), []
        for start in range(0, len(videos), self.batch_size):
            part = videos[start : start + self.batch_size]
            seen = [look(video, fps or 8.0, settings=ClipSettings(), layout=layout) for video in part]
            merged = layout.merge_size**2
            tokens = [patches.grid[0] * patches.grid[1] * patches.grid[2] // merged for patches in seen]
            ids = [[self.model.config.video_token_id] * count + [0] * TEXT_TOKENS for count in tokens]
            batch = collate(seen, ids, pad=0)
            words = self.model.get_input_embeddings()(batch.input_ids)
            states = hidden_states(self.model, batch, words, positions="sequential")
            found.append(states[:, -1].float().sum(dim=-1))
        return dict.fromkeys(self.dimensions, torch.cat(found))


class TowerShapes(Reward):
    """A reward of single frames on a CLIP tower; of the text it counts the weights, and none of the few activations."""

    def __init__(
        self,
        card: RewardCard,
        tower: Mapping[str, Any],
        *,
        frames: int | None = None,
        batch_size: int = 32,
        dtype: str = "auto",
        **others: Any,
    ) -> None:
        from transformers import CLIPConfig, CLIPModel

        with META:
            self.model = CLIPModel._from_config(
                CLIPConfig(**tower), dtype=torch.float32 if dtype == "auto" else getattr(torch, dtype)
            )
            self.model.requires_grad_(False).eval()
        self.card, self.frames, self.batch_size = card, frames, batch_size  # type: ignore[misc]
        self.preprocess = Preprocessing(
            size=self.model.config.vision_config.image_size, fit=others.get("fit") or "crop"
        )
        self.dimensions, self.name, self.version = card.dimensions, "tower", "shapes"

    def frames_read(self, count: int) -> list[int] | None:
        return None if self.frames is None else spaced(count, self.frames)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        pixels = look_at_frames(videos, self.frames, self.preprocess, META).to(self.model.dtype)
        embeddings = in_batches(self._project, self.batch_size, pixels).split(counts(videos, self.frames))
        return dict.fromkeys(self.dimensions, torch.stack([each.float().mean() for each in embeddings]))

    def _project(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        return found


class Uncounted(Reward):
    """In the place of a reward whose shapes are not known here: it reads every pixel and holds nothing."""

    def __init__(self, card: RewardCard, dimensions: tuple[str, ...]) -> None:
        self.card, self.dimensions, self.name, self.version = card, dimensions, "uncounted", "shapes"  # type: ignore[misc]

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return dict.fromkeys(self.dimensions, torch.stack([video.mean() for video in videos]))


TOWERS = {
    "clipscore": VIT_B,
    "aesthetic": VIT_L,
    **dict.fromkeys(("pickscore", "hpsv2", "hpsv2.1", "mps"), VIT_H),
}
"""Rewards on a CLIP tower whose published sizes are known here."""


def refuse_latent(name: str) -> None:
    """A plan of a latent reward, which there need not be yet, is none.

    Raises:
        ReelignError: it is one.
    """
    if name.startswith(LATENT):
        raise ReelignError(
            f"A plan does not count {name}, which stands on blocks of the denoiser itself.",
            "Plan stream=offline objective.name=sft, whose step holds as much of the policy, and add those blocks.",
        )


def planned_reward(name: str, options: Mapping[str, Any], *, checkpointing: bool = False) -> tuple[Reward, str]:
    """A reward on the meta device, and what of it is not counted ('' where all is).

    Args:
        name: as for `open_reward`; one that holds no weights of its own is opened.
        options: what it is opened with.
        checkpointing: its blocks run again in the backward pass.
    Raises:
        ReelignError: no such reward or option.
    """
    refuse_latent(name)
    check_reward(name, **options)
    if name.startswith(("http://", "https://")):
        card = RewardCard(what="", dimensions=("overall",), differentiable=False, frames_needed=1)
        return Uncounted(card, card.dimensions), ""
    reward: Reward
    if name == "videoreward" and not options.get("model"):
        reward = QwenShapes(card_of(name), **options)
    elif name in TOWERS and not options.get("model"):
        reward = TowerShapes(card_of(name), TOWERS[name], **options)
    elif name not in REWARDS or not (card_of(name).weights or name in ("composed", "joints", "critic")):
        reward = open_reward(name, **options)
        for module in modules_of(reward):
            module.to(META)
    else:
        card = card_of(name)
        size = f" ({card.size})" if card.size else ""
        return Uncounted(card, card.dimensions), f"the reward {name}{size}, its weights and what it computes"
    if checkpointing:
        checkpoint_models(reward)
    return reward, ""


@contextlib.contextmanager
def on_shapes(reward: Reward) -> Iterator[None]:
    """In the block the reward runs without values; one whose way depends on them is refused.

    Raises:
        ReelignError: it cannot run so.
    """
    try:
        yield
    except ReelignError:
        raise
    except Exception as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise ReelignError(
            f"The reward {reward.name!r} cannot be run on shapes alone: {told}",
            "Plan with one that can, such as sharpness or aesthetic, and add what its own model holds.",
        ) from error


def reward_modules(reward: Reward) -> list[nn.Module]:
    """The networks that a reward holds."""
    return modules_of(reward)
